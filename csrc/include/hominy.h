/* hominy.h: the C interface, and the library at a glance.
 *
 * Every kernel of hominy is a function pointer of `hominy_kernels`, the table below. A caller asks for the table once
 * (`hominy_get_kernels`, or the PyCapsule `hominy._native.kernel_table`) and calls through it. All kernels share one
 * contract:
 *
 *   - Arrays come as tensor descriptors: pointer, dtype, shape, strides in bytes. Any strides do: transposed, negative,
 *     zero (broadcast), misaligned. Sizes may be 0.
 *   - Nothing is thrown, printed or kept; a status code comes back, and on anything but HOMINY_OK no output was written
 *     unless the kernel says otherwise.
 *   - An output may be exactly an input (same pointer, shape, strides) or not overlap it at all.
 *   - Scratch memory is asked for by the `..._workspace_size` companion and passed in by the caller, 64-byte aligned.
 *   - float32 and float64 compute. Accumulation and error bounds stand in the kernel's own header, csrc/cpu/<stem>.hpp.
 *   - The same input gives the same bits for any number of threads and any alignment.
 */
#ifndef HOMINY_H
#define HOMINY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised by one whenever a struct below changes: a table with another number must not be used. */
#define HOMINY_ABI_VERSION 4
#define HOMINY_MAX_NDIM 32

typedef enum hominy_status {
  HOMINY_OK = 0,
  HOMINY_BAD_DTYPE,   /* a dtype that this kernel does not compute, or dtypes that differ */
  HOMINY_BAD_SHAPE,   /* shapes that do not fit each other */
  HOMINY_OVERFLOW,    /* a size or a product of sizes beyond int64 */
  HOMINY_BAD_INDEX,   /* an index out of range; the output is then unspecified */
  HOMINY_BAD_VALUE,   /* a scalar argument out of range, an unknown operation code */
  HOMINY_NO_WORKSPACE /* workspace smaller than asked for */
} hominy_status;

typedef enum hominy_dtype {
  HOMINY_BOOL = 0,
  HOMINY_UINT8,
  HOMINY_INT8,
  HOMINY_INT16,
  HOMINY_INT32,
  HOMINY_INT64,
  HOMINY_FLOAT16,
  HOMINY_BFLOAT16,
  HOMINY_FLOAT32,
  HOMINY_FLOAT64
} hominy_dtype;

typedef struct hominy_tensor {
  void* data;
  int32_t dtype; /* a hominy_dtype */
  int32_t ndim;  /* 0 to HOMINY_MAX_NDIM */
  int64_t shape[HOMINY_MAX_NDIM];
  int64_t strides[HOMINY_MAX_NDIM]; /* in bytes, as NumPy's */
} hominy_tensor;

/* One list an arity: the enumerators, the functor that computes them (csrc/cpu/elementwise.hpp), the Python bindings
 * and the case table all follow it. `p` and `q` are the operation's scalar parameters. Backward operations take the
 * gradient first, then what the forward kept: y its output, x its input. */
#define HOMINY_UNARY_OPERATIONS(APPLY)                                  \
  APPLY(negative)                                                       \
  APPLY(absolute)                                                       \
  APPLY(sign)                                                           \
  APPLY(square)                                                         \
  APPLY(sqrt)                                                           \
  APPLY(rsqrt)                                                          \
  APPLY(reciprocal)                                                     \
  APPLY(exp)                                                            \
  APPLY(expm1)                                                          \
  APPLY(log)                                                            \
  APPLY(log1p)                                                          \
  APPLY(tanh)                                                           \
  APPLY(sigmoid)                                                        \
  APPLY(erf)                                                            \
  APPLY(floor)                                                          \
  APPLY(ceil)                                                           \
  APPLY(round)      /* half to even */                                  \
  APPLY(relu)       /* NaN stays NaN */                                 \
  APPLY(leaky_relu) /* p: slope below 0 */                              \
  APPLY(elu)        /* p: alpha */                                      \
  APPLY(silu)       /* x sigmoid(x) */                                  \
  APPLY(softsign)   /* x / (1 + |x|) */                                 \
  APPLY(gelu)       /* x/2 (1 + erf(x / sqrt 2)) */                     \
  APPLY(gelu_tanh)  /* its tanh form */                                 \
  APPLY(softplus)   /* log(1 + exp(p x)) / p, x itself where p x > q */ \
  APPLY(clamp)      /* to [p, q]; NaN stays NaN */

#define HOMINY_BINARY_OPERATIONS(APPLY)                                                                        \
  APPLY(add)                                                                                                   \
  APPLY(subtract)                                                                                              \
  APPLY(multiply)                                                                                              \
  APPLY(divide)                                                                                                \
  APPLY(power)                                                                                                 \
  APPLY(maximum) /* NaN wins, as in NumPy */                                                                   \
  APPLY(minimum)                                                                                               \
  APPLY(binary_cross_entropy)          /* (x, y): -(y log x + (1 - y) log(1 - x)), logarithms at least -100 */ \
  APPLY(binary_cross_entropy_backward) /* (x, y): its slope in x, (x - y) / max(x (1 - x), 1e-12) */           \
  APPLY(absolute_backward)             /* (g, x): g sign(x) */                                                 \
  APPLY(tanh_backward)                 /* g (1 - y^2) */                                                       \
  APPLY(sigmoid_backward)              /* g y (1 - y) */                                                       \
  APPLY(relu_backward)                 /* g where y > 0, else 0 */                                             \
  APPLY(leaky_relu_backward)           /* (g, x); p: slope */                                                  \
  APPLY(elu_backward)                  /* (g, x); p: alpha */                                                  \
  APPLY(silu_backward)                 /* (g, x) */                                                            \
  APPLY(gelu_backward)                 /* (g, x) */                                                            \
  APPLY(gelu_tanh_backward)            /* (g, x) */                                                            \
  APPLY(softplus_backward)             /* (g, x); p, q as above */                                             \
  APPLY(clamp_backward)                /* (g, x): g where p <= x <= q, else 0 */

#define HOMINY_COMPARE_OPERATIONS(APPLY) \
  APPLY(equal)                           \
  APPLY(not_equal)                       \
  APPLY(less)                            \
  APPLY(less_equal)                      \
  APPLY(greater)                         \
  APPLY(greater_equal)

#define HOMINY_REDUCE_OPERATIONS(APPLY)             \
  APPLY(sum)  /* 0 of nothing */                    \
  APPLY(mean) /* NaN of nothing */                  \
  APPLY(prod) /* 1 of nothing */                    \
  APPLY(amax) /* NaN wins; of nothing: bad shape */ \
  APPLY(amin)

#define HOMINY_UNARY_ENUMERATOR(name) HOMINY_UNARY_##name,
#define HOMINY_BINARY_ENUMERATOR(name) HOMINY_BINARY_##name,
#define HOMINY_COMPARE_ENUMERATOR(name) HOMINY_COMPARE_##name,
#define HOMINY_REDUCE_ENUMERATOR(name) HOMINY_REDUCE_##name,
typedef enum hominy_unary { HOMINY_UNARY_OPERATIONS(HOMINY_UNARY_ENUMERATOR) HOMINY_UNARY_COUNT } hominy_unary;
typedef enum hominy_binary { HOMINY_BINARY_OPERATIONS(HOMINY_BINARY_ENUMERATOR) HOMINY_BINARY_COUNT } hominy_binary;
typedef enum hominy_compare {
  HOMINY_COMPARE_OPERATIONS(HOMINY_COMPARE_ENUMERATOR) HOMINY_COMPARE_COUNT
} hominy_compare;
typedef enum hominy_reduce { HOMINY_REDUCE_OPERATIONS(HOMINY_REDUCE_ENUMERATOR) HOMINY_REDUCE_COUNT } hominy_reduce;

/* Applied to a product's result in the store. */
typedef enum hominy_activation {
  HOMINY_ACTIVATION_NONE = 0,
  HOMINY_ACTIVATION_RELU,
  HOMINY_ACTIVATION_SIGMOID,
  HOMINY_ACTIVATION_TANH,
  HOMINY_ACTIVATION_GELU,
  HOMINY_ACTIVATION_SILU
} hominy_activation;

/* One parameter's share of a whole-model optimizer step: flat, contiguous arrays of `size` elements. */
typedef struct hominy_parameter {
  void* value;
  const void* gradient;
  void* state1; /* SGD: momentum buffer or NULL; Adam, NAdam, RAdam, Adamax: exp_avg; RMSprop, Adadelta: square_avg;
                   Adagrad: sum */
  void* state2; /* Adam, NAdam, RAdam: exp_avg_sq; Adamax: exp_inf; RMSprop: momentum buffer or NULL;
                   Adadelta: acc_delta */
  void* state3; /* Adam: max_exp_avg_sq for amsgrad, or NULL; RMSprop: grad_avg where centered, or NULL */
  int64_t size;
  int32_t dtype;
} hominy_parameter;

typedef struct hominy_sgd {
  double learning_rate, momentum, dampening, weight_decay;
  int32_t nesterov, maximize;
  int32_t first_step; /* momentum buffers hold nothing yet: they become the gradient itself */
} hominy_sgd;

typedef struct hominy_adam {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  int64_t step;      /* 1 for the first */
  int32_t decoupled; /* weight decay as AdamW's: value *= 1 - learning_rate * weight_decay */
  int32_t maximize;
} hominy_adam;

typedef struct hominy_nadam {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  int64_t step;
  int32_t decoupled, maximize;
  double mu, mu_next; /* momentum of this step and of the next */
  double mu_product;  /* of all steps up to this one */
} hominy_nadam;

typedef struct hominy_rmsprop {
  double learning_rate, alpha, epsilon, weight_decay, momentum;
  int32_t centered, maximize;
} hominy_rmsprop;

typedef struct hominy_adagrad {
  double learning_rate, learning_rate_decay, epsilon, weight_decay;
  int64_t step;
  int32_t maximize;
} hominy_adagrad;

typedef struct hominy_adadelta {
  double learning_rate, rho, epsilon, weight_decay;
  int32_t maximize;
} hominy_adadelta;

/* Which of a convolution's three operands is the result of the other two. */
typedef enum hominy_conv_direction {
  HOMINY_CONV_FORWARD = 0,
  HOMINY_CONV_INPUT_GRADIENT,
  HOMINY_CONV_WEIGHT_GRADIENT
} hominy_conv_direction;

/* AUTO chooses by shape; PRODUCT computes every convolution; the others say in csrc/cpu/conv.hpp what they are for. */
typedef enum hominy_conv_algorithm {
  HOMINY_CONV_AUTO = 0,
  HOMINY_CONV_PRODUCT,
  HOMINY_CONV_DEPTHWISE,
  HOMINY_CONV_GROUPED,
  HOMINY_CONV_WINOGRAD2,
  HOMINY_CONV_WINOGRAD4
} hominy_conv_algorithm;

typedef struct hominy_conv {
  int64_t stride[3], padding[3], dilation[3]; /* one a dimension of space; padding before its first element */
  int64_t groups;
  hominy_conv_algorithm algorithm;
  hominy_activation activation;
  int32_t exact; /* AUTO never chooses Winograd */
} hominy_conv;

/* Along one dimension, the inputs that each position of an output is made of: pooling, interpolation. */
typedef struct hominy_windows {
  int64_t size;             /* positions of the output */
  int64_t most;             /* the most inputs that one of them reads */
  const int32_t* counts;    /* (size) how many each reads */
  const int32_t* positions; /* (most, size) which; not read beyond the count */
  const double* weights;    /* (most, size) their weights, or NULL: 1 */
  const double* divisors;   /* (size) what the sum is divided by, or NULL: 1 */
} hominy_windows;

typedef enum hominy_cell { HOMINY_CELL_RNN = 0, HOMINY_CELL_LSTM, HOMINY_CELL_GRU } hominy_cell;

/* ONNX's, with its alpha and beta. */
typedef enum hominy_gate_activation {
  HOMINY_GATE_SIGMOID = 0,
  HOMINY_GATE_TANH,
  HOMINY_GATE_RELU,
  HOMINY_GATE_LEAKY_RELU,       /* alpha x below 0 */
  HOMINY_GATE_THRESHOLDED_RELU, /* x above alpha, else 0 */
  HOMINY_GATE_AFFINE,           /* alpha x + beta */
  HOMINY_GATE_SCALED_TANH,      /* alpha tanh(beta x) */
  HOMINY_GATE_HARD_SIGMOID,     /* alpha x + beta within [0, 1] */
  HOMINY_GATE_ELU,              /* alpha (exp(x) - 1) below 0 */
  HOMINY_GATE_SOFTSIGN,
  HOMINY_GATE_SOFTPLUS
} hominy_gate_activation;

/* What all steps and directions of a layer share. */
typedef struct hominy_recurrent {
  int32_t cell;          /* a hominy_cell */
  int32_t directions;    /* 1 or 2: the length of the arrays of hominy_recurrent_direction and ..._gradients */
  int32_t activation[3]; /* hominy_gate_activation: of the gates (rnn: of h), of g or n, of lstm's c */
  double alpha[3], beta[3];
  double clip;          /* of every activation's argument; 0: none */
  int32_t coupled;      /* lstm: f = 1 - i */
  int32_t reset_before; /* gru: r is applied before the recurrent product */
  int64_t keep_every;   /* 1: what backward needs is kept; k > 1: every k-th state, the steps between are recomputed */
} hominy_recurrent;

/* One direction. Gates G: 1, 4 (i, f, g, o), 3 (r, z, n); H units; P = H, or with w_hr the projection's size. */
typedef struct hominy_recurrent_direction {
  int32_t reverse;
  const void* packed;               /* recurrent_pack's, or NULL: packed in the workspace */
  const hominy_tensor *w_ih, *w_hh; /* (G H, I), (G H, P) */
  const hominy_tensor *b_ih, *b_hh; /* (G H) or NULL */
  const hominy_tensor* w_hr;        /* lstm: (P, H) or NULL */
  const hominy_tensor* peephole;    /* lstm: (3, H): i, f, o; or NULL */
  const hominy_tensor *h0, *c0;     /* (B, P), (B, H), or NULL: 0 */
  const hominy_tensor* y;           /* result: (T, B, P) or, packed, (N, P); zero beyond a row's length */
  const hominy_tensor *h_n, *c_n;   /* results: (B, P), (B, H), or NULL; not read by backward */
} hominy_recurrent_direction;

/* Beside a direction in backward; each may be NULL: a gradient of zero, a result that is not wanted. */
typedef struct hominy_recurrent_gradients {
  const hominy_tensor *y, *h_n, *c_n;                                         /* gradients of the forward's results */
  const hominy_tensor *w_ih, *w_hh, *b_ih, *b_hh, *w_hr, *peephole, *h0, *c0; /* results */
} hominy_recurrent_gradients;

typedef struct hominy_kernels {
  int32_t abi_version;
  const char* isa; /* "baseline", "avx2", "avx512", "neon" */

  /* out[..., m, n] = activation(a[..., m, k] @ b[..., k, n] + bias[n]). Batch dimensions are equal or of stride 0: the
   * caller has broadcast them. bias may be NULL. out may not overlap a, b or bias. */
  int64_t (*matmul_workspace_size)(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* out);
  hominy_status (*matmul)(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* bias,
                          hominy_activation activation, const hominy_tensor* out, void* workspace,
                          int64_t workspace_size);

  /* x (N, C, space...), weight (O, C / groups, kernel...), out (N, O, space...), space of one to three dimensions:
   * out[n, o, p] = activation(bias[o] + residual[n, o, p] + sum of weight[o, c, t] x[n, c, p stride + t dilation -
   * padding]), x zero outside. `direction` says which of the three is written: for the input gradient bias (C) and
   * residual are x's, for the weight gradient there are none. bias and residual may be NULL, and so may `packed`, what
   * conv_pack made of the weights for a call with these shapes, strides and settings; packed size 0: it makes nothing.
   * The result may not overlap its operands.
   */
  hominy_conv_algorithm (*conv_algorithm)(hominy_conv_direction direction, const hominy_tensor* x,
                                          const hominy_tensor* weight, const hominy_tensor* out,
                                          const hominy_conv* settings);
  int64_t (*conv_packed_size)(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                              const hominy_tensor* out, const hominy_conv* settings);
  hominy_status (*conv_pack)(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                             const hominy_tensor* out, const hominy_conv* settings, void* packed);
  int64_t (*conv_workspace_size)(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                                 const hominy_tensor* out, const hominy_conv* settings);
  hominy_status (*conv)(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                        const hominy_tensor* out, const hominy_tensor* bias, const hominy_tensor* residual,
                        const void* packed, const hominy_conv* settings, void* workspace, int64_t workspace_size);

  /* All operands of one shape (broadcast dimensions have stride 0) and one dtype; `compare` writes HOMINY_BOOL,
   * `where` reads its condition as HOMINY_BOOL. */
  hominy_status (*unary)(hominy_unary operation, const hominy_tensor* x, double p, double q, const hominy_tensor* out);
  hominy_status (*binary)(hominy_binary operation, const hominy_tensor* a, const hominy_tensor* b, double p, double q,
                          const hominy_tensor* out);
  hominy_status (*compare)(hominy_compare operation, const hominy_tensor* a, const hominy_tensor* b,
                           const hominy_tensor* out);
  hominy_status (*where)(const hominy_tensor* condition, const hominy_tensor* a, const hominy_tensor* b,
                         const hominy_tensor* out);
  /* Same shape, same dtype, any strides. */
  hominy_status (*copy)(const hominy_tensor* x, const hominy_tensor* out);

  /* out has x's ndim; its reduced dimensions are 1. */
  hominy_status (*reduce)(hominy_reduce operation, const hominy_tensor* x, const hominy_tensor* out);
  /* Index of the first largest (or, with `smallest`, smallest) element along `axis`; NaN wins. out: int64, x's ndim,
   * shape 1 at axis. */
  hominy_status (*arg_reduce)(int32_t smallest, const hominy_tensor* x, int32_t axis, const hominy_tensor* out);

  /* Along `axis`; with `logarithm`, log-softmax. backward: gradient with respect to the input, from the output y. */
  hominy_status (*softmax)(int32_t logarithm, const hominy_tensor* x, int32_t axis, const hominy_tensor* out);
  hominy_status (*softmax_backward)(int32_t logarithm, const hominy_tensor* gradient, const hominy_tensor* y,
                                    int32_t axis, const hominy_tensor* out);

  /* logits (N, C), target (N) int64, weight (C) or NULL, losses (N), logsumexp (N).
   * losses[n] = weight[t] * ((1 - s) * nll(t) + ...) as PyTorch's cross_entropy with reduction "none", s the label
   * smoothing; 0 where target is ignore_index. BAD_INDEX where a target is neither ignored nor in [0, C). */
  hominy_status (*cross_entropy)(const hominy_tensor* logits, const hominy_tensor* target, const hominy_tensor* weight,
                                 int64_t ignore_index, double label_smoothing, const hominy_tensor* losses,
                                 const hominy_tensor* logsumexp);
  /* gradient (N) with respect to losses; out (N, C) with respect to logits. */
  hominy_status (*cross_entropy_backward)(const hominy_tensor* gradient, const hominy_tensor* logits,
                                          const hominy_tensor* target, const hominy_tensor* weight,
                                          int64_t ignore_index, double label_smoothing, const hominy_tensor* logsumexp,
                                          const hominy_tensor* out);

  /* Rows of x (M, N) to mean 0 and variance 1, then times weight (N) plus bias (N), both or either NULL. With `rms` the
   * root of the mean square divides and mean is NULL. mean, rstd (M): what backward needs. Lists are contiguous and
   * aligned to their elements. */
  hominy_status (*layer_norm)(int32_t rms, const hominy_tensor* x, const hominy_tensor* weight,
                              const hominy_tensor* bias, double epsilon, const hominy_tensor* out,
                              const hominy_tensor* mean, const hominy_tensor* rstd);
  int64_t (*layer_norm_workspace_size)(const hominy_tensor* x);
  /* mean is NULL after rms. Of the three results any may be NULL; the workspace is for those of weight and bias. */
  hominy_status (*layer_norm_backward)(const hominy_tensor* gradient, const hominy_tensor* x,
                                       const hominy_tensor* weight, const hominy_tensor* mean,
                                       const hominy_tensor* rstd, const hominy_tensor* out,
                                       const hominy_tensor* weight_gradient, const hominy_tensor* bias_gradient,
                                       void* workspace, int64_t workspace_size);

  /* x (N, C, S), weight and bias (C) or NULL. groups = 0: statistics of each channel over batch and positions, mean and
   * variance (C); else of each group of channels of each item, (N * groups). variance is the mean of squares about the
   * mean. With `fixed` mean and variance are given (evaluation), else they are results. */
  int64_t (*channel_norm_workspace_size)(const hominy_tensor* x, int64_t groups);
  hominy_status (*channel_norm)(const hominy_tensor* x, const hominy_tensor* weight, const hominy_tensor* bias,
                                int64_t groups, double epsilon, int32_t fixed, const hominy_tensor* mean,
                                const hominy_tensor* variance, const hominy_tensor* out, void* workspace,
                                int64_t workspace_size);
  hominy_status (*channel_norm_backward)(const hominy_tensor* gradient, const hominy_tensor* x,
                                         const hominy_tensor* weight, const hominy_tensor* mean,
                                         const hominy_tensor* variance, int64_t groups, double epsilon, int32_t fixed,
                                         const hominy_tensor* out, const hominy_tensor* weight_gradient,
                                         const hominy_tensor* bias_gradient, void* workspace, int64_t workspace_size);

  /* out (N, D) = table (V, D)[indices (N) int64]; BAD_INDEX outside [0, V). backward: out (V, D) is 0 plus the
   * gradients (N, D) of each row, but those of index `ignored`. */
  hominy_status (*embedding)(const hominy_tensor* table, const hominy_tensor* indices, const hominy_tensor* out);
  hominy_status (*embedding_backward)(const hominy_tensor* gradient, const hominy_tensor* indices, int64_t ignored,
                                      const hominy_tensor* out);

  /* out = x / (1 - p) with probability 1 - p, else 0: decided by the seed and the element's number in C order. Both
   * arrays lie in C order. Its own gradient. */
  hominy_status (*dropout)(const hominy_tensor* x, double p, uint64_t seed, const hominy_tensor* out);

  /* x (N, C, D, H, W); windows: of depth, height and width. resample: weighted sums of windows (average pooling,
   * interpolation, their gradients). max_pool: the largest of each window and, unless indices is NULL, its place in the
   * plane (D, H, W) (int64 or int32). */
  int64_t (*resample_workspace_size)(const hominy_tensor* x, const hominy_windows* windows);
  hominy_status (*resample)(const hominy_tensor* x, const hominy_windows* windows, const hominy_tensor* out,
                            void* workspace, int64_t workspace_size);
  int64_t (*max_pool_workspace_size)(const hominy_tensor* x, const hominy_windows* windows);
  hominy_status (*max_pool)(const hominy_tensor* x, const hominy_windows* windows, const hominy_tensor* out,
                            const hominy_tensor* indices, void* workspace, int64_t workspace_size);
  hominy_status (*max_pool_backward)(const hominy_tensor* gradient, const hominy_tensor* indices,
                                     const hominy_windows* windows, const hominy_tensor* out, void* workspace,
                                     int64_t workspace_size);
  /* out (N, C, Q) = x (N, C, P)[n, c, indices (N, C, Q)]; and out = 0, out[n, c, indices (N, C, P)] = or += x (N, C,
   * P). BAD_INDEX outside the plane. */
  hominy_status (*gather_planes)(const hominy_tensor* x, const hominy_tensor* indices, const hominy_tensor* out);
  hominy_status (*scatter_planes)(int32_t sum, const hominy_tensor* x, const hominy_tensor* indices,
                                  const hominy_tensor* out);

  /* One layer over a whole sequence, one or two directions. x: (T, B, I), or with lengths (N, I), the rows of all steps
   * in packed order (PyTorch's PackedSequence). lengths (B) int64 or NULL (all T): not increasing, from 0 to T; those
   * of a packed x start with T and add up to N. BAD_VALUE where they do not. Sizes are in bytes. `kept` receives what
   * backward needs; NULL where there will be none. */
  int64_t (*recurrent_packed_size)(const hominy_recurrent* cell, const hominy_recurrent_direction* direction);
  hominy_status (*recurrent_pack)(const hominy_recurrent* cell, const hominy_recurrent_direction* direction,
                                  void* packed, int64_t packed_size);
  int64_t (*recurrent_kept_size)(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                 const hominy_tensor* x, const hominy_tensor* lengths);
  int64_t (*recurrent_workspace_size)(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                      const hominy_tensor* x, const hominy_tensor* lengths);
  hominy_status (*recurrent)(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                             const hominy_tensor* x, const hominy_tensor* lengths, void* kept, int64_t kept_size,
                             void* workspace, int64_t workspace_size);
  /* x_gradient as x, or NULL. `kept` is only read. */
  int64_t (*recurrent_backward_workspace_size)(const hominy_recurrent* cell,
                                               const hominy_recurrent_direction* directions, const hominy_tensor* x,
                                               const hominy_tensor* lengths);
  hominy_status (*recurrent_backward)(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                      const hominy_recurrent_gradients* gradients, const hominy_tensor* x,
                                      const hominy_tensor* lengths, const void* kept, int64_t kept_size,
                                      const hominy_tensor* x_gradient, void* workspace, int64_t workspace_size);

  /* One call steps every parameter of a model. */
  hominy_status (*sgd_step)(const hominy_parameter* parameters, int64_t count, const hominy_sgd* settings);
  hominy_status (*adam_step)(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings);
  hominy_status (*nadam_step)(const hominy_parameter* parameters, int64_t count, const hominy_nadam* settings);
  hominy_status (*radam_step)(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings);
  hominy_status (*adamax_step)(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings);
  hominy_status (*rmsprop_step)(const hominy_parameter* parameters, int64_t count, const hominy_rmsprop* settings);
  hominy_status (*adagrad_step)(const hominy_parameter* parameters, int64_t count, const hominy_adagrad* settings);
  hominy_status (*adadelta_step)(const hominy_parameter* parameters, int64_t count, const hominy_adadelta* settings);
} hominy_kernels;

/* The table of the chosen ISA level (by CPU and operating system, or by HOMINY_ISA); never NULL. */
const hominy_kernels* hominy_get_kernels(void);
/* The table of a named level, or NULL when the level is not built in or this machine cannot run it. */
const hominy_kernels* hominy_get_kernels_for(const char* isa);

#ifdef __cplusplus
}
#endif
#endif
