// Optimizer steps are bound by memory, so each is one pass: load value, gradient and states, compute in registers,
// store. All parameters together are cut into spans of elements; a tiny parameter shares its task with its neighbours.
#include "optimizer.hpp"

#include <math.h>

#include "parallel_for.hpp"
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t smallest_span = 16384;  // elements; below it a second thread costs more than it saves
constexpr int64_t most_spans = 256;

template <class T>
struct sgd_rule {
  vec<T> learning_rate, momentum, one_minus_dampening, weight_decay, sign;
  bool use_momentum, first_step, nesterov, decay;

  explicit sgd_rule(const hominy_sgd& s)
      : learning_rate(broadcast(T(s.learning_rate))),
        momentum(broadcast(T(s.momentum))),
        one_minus_dampening(broadcast(T(1 - s.dampening))),
        weight_decay(broadcast(T(s.weight_decay))),
        sign(broadcast(T(s.maximize ? -1 : 1))),
        use_momentum(s.momentum != 0),
        first_step(s.first_step != 0),
        nesterov(s.nesterov != 0),
        decay(s.weight_decay != 0) {}

  // get and put move one vector, whole or partial, between memory and registers.
  template <class Get, class Put>
  void step(T* value, const T* gradient, T* buffer, T*, T*, Get get, Put put) const {
    vec<T> v = get(value), g = sign * get(gradient);
    if (decay) g = g + weight_decay * v;
    if (use_momentum) {
      vec<T> b = first_step ? g : momentum * get(buffer) + one_minus_dampening * g;
      put(buffer, b);
      g = nesterov ? g + momentum * b : b;
    }
    put(value, v - learning_rate * g);
  }
};

template <class T>
struct adam_rule {
  vec<T> beta1, one_minus_beta1, beta2, one_minus_beta2, root_scale, epsilon, step_size, coupled_decay, shrink, sign;
  bool lerp_from_gradient, coupled;

  explicit adam_rule(const hominy_adam& s)
      : beta1(broadcast(T(s.beta1))),
        one_minus_beta1(broadcast(T(1 - s.beta1))),
        beta2(broadcast(T(s.beta2))),
        one_minus_beta2(broadcast(T(1 - s.beta2))),
        root_scale(broadcast(T(1 / ::sqrt(1 - pow(s.beta2, double(s.step)))))),
        epsilon(broadcast(T(s.epsilon))),
        step_size(broadcast(T(s.learning_rate / (1 - pow(s.beta1, double(s.step)))))),
        coupled_decay(broadcast(T(s.weight_decay))),
        shrink(broadcast(T(s.decoupled ? 1 - s.learning_rate * s.weight_decay : 1))),
        sign(broadcast(T(s.maximize ? -1 : 1))),
        lerp_from_gradient(1 - s.beta1 >= 0.5),
        coupled(s.weight_decay != 0 && !s.decoupled) {}

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* exp_avg, T* exp_avg_sq, T* max_exp_avg_sq, Get get, Put put) const {
    vec<T> v = shrink * get(value), g = sign * get(gradient);
    if (coupled) g = g + coupled_decay * v;
    vec<T> m = get(exp_avg), difference = g - m;
    m = lerp_from_gradient ? g - difference * beta1 : m + one_minus_beta1 * difference;
    vec<T> s = get(exp_avg_sq) * beta2 + one_minus_beta2 * g * g;
    put(exp_avg, m);
    put(exp_avg_sq, s);
    if (max_exp_avg_sq) {
      vec<T> largest = get(max_exp_avg_sq);
      s = select<T>((s > largest) | (s != s), s, largest);
      put(max_exp_avg_sq, s);
    }
    put(value, v - step_size * m / (sqrt<T>(s) * root_scale + epsilon));
  }
};

template <class T>
T* advance(void* p, int64_t elements) {
  return p ? static_cast<T*>(p) + elements : nullptr;
}

// Elements [first, first + n) of one parameter.
template <class T, class Rule>
void step_range(const Rule& shared_rule, const hominy_parameter& p, int64_t first, int64_t n) {
  const Rule rule = shared_rule;  // a copy, so that the compiler sees that no store below changes it
  T* value = advance<T>(p.value, first);
  const T* gradient = static_cast<const T*>(p.gradient) + first;
  T* state1 = advance<T>(p.state1, first);
  T* state2 = advance<T>(p.state2, first);
  T* state3 = advance<T>(p.state3, first);
  int64_t i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>)
    rule.step(
        value + i, gradient + i, state1 + i, state2 + i, state3 ? state3 + i : nullptr,
        [](const T* from) { return load(from); }, [](T* to, vec<T> x) { store(to, x); });
  if (i < n)
    rule.step(
        value + i, gradient + i, state1 + i, state2 + i, state3 ? state3 + i : nullptr,
        [=](const T* from) { return load_partial(from, n - i); },
        [=](T* to, vec<T> x) { store_partial(to, x, n - i); });
}

// Checks every parameter, then steps all of them. `states`: how many of state1, state2 the rule needs.
template <template <class> class Rule, class Settings>
hominy_status step_all(const hominy_parameter* parameters, int64_t count, const Settings& settings, int states) {
  if (count < 0) return HOMINY_BAD_SHAPE;
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) {
    const hominy_parameter& p = parameters[i];
    if (p.dtype != HOMINY_FLOAT32 && p.dtype != HOMINY_FLOAT64) return HOMINY_BAD_DTYPE;
    if (p.size < 0) return HOMINY_BAD_SHAPE;
    if (p.size > 0 && (!p.value || !p.gradient || (states > 0 && !p.state1) || (states > 1 && !p.state2)))
      return HOMINY_BAD_VALUE;
    if (__builtin_add_overflow(total, p.size, &total)) return HOMINY_OVERFLOW;
  }
  if (total == 0) return HOMINY_OK;

  const Rule<float> rule_float32(settings);
  const Rule<double> rule_float64(settings);
  int64_t span = (total - 1) / most_spans + 1;
  if (span < smallest_span) span = smallest_span;
  const int64_t spans = (total - 1) / span + 1;

  struct place {
    int64_t parameter, element;
  } starts[most_spans];
  for (int64_t i = 0, base = 0, s = 0; s < spans; base += parameters[i++].size)
    for (; s < spans && s * span < base + parameters[i].size; ++s) starts[s] = {i, s * span - base};

  parallel_for(spans, [&](int64_t s) {
    int64_t left = minimum_of(span, total - s * span);
    int64_t element = starts[s].element;
    for (int64_t i = starts[s].parameter; left > 0; ++i, element = 0) {
      const hominy_parameter& p = parameters[i];
      const int64_t n = minimum_of(left, p.size - element);
      if (p.dtype == HOMINY_FLOAT32)
        step_range<float>(rule_float32, p, element, n);
      else
        step_range<double>(rule_float64, p, element, n);
      left -= n;
    }
  });
  return HOMINY_OK;
}

}  // namespace

hominy_status sgd_step(const hominy_parameter* parameters, int64_t count, const hominy_sgd* settings) {
  return step_all<sgd_rule>(parameters, count, *settings, settings->momentum != 0 ? 1 : 0);
}

hominy_status adam_step(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings) {
  if (settings->step < 1) return HOMINY_BAD_VALUE;
  return step_all<adam_rule>(parameters, count, *settings, 2);
}

}  // namespace hominy::HOMINY_LEVEL
