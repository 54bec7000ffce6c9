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

// The gradient that a rule follows: negated to climb, with weight decay where that is part of it.
template <class T>
struct direction {
  vec<T> sign, decay;
  bool decays;

  direction(bool maximize, double weight_decay)
      : sign(broadcast(T(maximize ? -1 : 1))), decay(broadcast(T(weight_decay))), decays(weight_decay != 0) {}

  vec<T> operator()(vec<T> gradient, vec<T> value) const {
    const vec<T> g = sign * gradient;
    return decays ? g + decay * value : g;
  }
};

// m + (1 - beta) (x - m), from whichever end of the two is nearer.
template <class T>
struct running_mean {
  vec<T> kept, added;
  bool from_new;

  explicit running_mean(double beta)
      : kept(broadcast(T(beta))), added(broadcast(T(1 - beta))), from_new(1 - beta >= 0.5) {}

  vec<T> operator()(vec<T> mean, vec<T> x) const {
    const vec<T> difference = x - mean;
    return from_new ? x - difference * kept : mean + added * difference;
  }
};

template <class T>
struct running_square {
  vec<T> kept, added;

  explicit running_square(double beta) : kept(broadcast(T(beta))), added(broadcast(T(1 - beta))) {}

  vec<T> operator()(vec<T> square, vec<T> x) const { return square * kept + added * x * x; }
};

// A rule has step(value, gradient, state1, state2, state3, get, put): get and put move one vector, whole or partial,
// between memory and registers.
template <class T>
struct sgd_rule {
  direction<T> follow;
  vec<T> learning_rate, momentum, one_minus_dampening;
  bool use_momentum, first_step, nesterov;

  explicit sgd_rule(const hominy_sgd& s)
      : follow(s.maximize, s.weight_decay),
        learning_rate(broadcast(T(s.learning_rate))),
        momentum(broadcast(T(s.momentum))),
        one_minus_dampening(broadcast(T(1 - s.dampening))),
        use_momentum(s.momentum != 0),
        first_step(s.first_step != 0),
        nesterov(s.nesterov != 0) {}

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* buffer, T*, T*, Get get, Put put) const {
    vec<T> v = get(value), g = follow(get(gradient), v);
    if (use_momentum) {
      vec<T> b = first_step ? g : momentum * get(buffer) + one_minus_dampening * g;
      put(buffer, b);
      g = nesterov ? g + momentum * b : b;
    }
    put(value, v - learning_rate * g);
  }
};

// What Adam, NAdam and RAdam share: decay inside the gradient or beside it, and the two running means.
template <class T>
struct moments {
  direction<T> follow;
  running_mean<T> average;
  running_square<T> average_square;
  vec<T> shrink, epsilon;

  template <class Settings>
  explicit moments(const Settings& s)
      : follow(s.maximize, s.decoupled ? 0 : s.weight_decay),
        average(s.beta1),
        average_square(s.beta2),
        shrink(broadcast(T(s.decoupled ? 1 - s.learning_rate * s.weight_decay : 1))),
        epsilon(broadcast(T(s.epsilon))) {}
};

inline double correction(double beta, int64_t step) { return 1 - pow(beta, double(step)); }

template <class T>
struct adam_rule : moments<T> {
  vec<T> root_scale, step_size;

  explicit adam_rule(const hominy_adam& s)
      : moments<T>(s),
        root_scale(broadcast(T(1 / ::sqrt(correction(s.beta2, s.step))))),
        step_size(broadcast(T(s.learning_rate / correction(s.beta1, s.step)))) {}

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* exp_avg, T* exp_avg_sq, T* max_exp_avg_sq, Get get, Put put) const {
    vec<T> v = this->shrink * get(value), g = this->follow(get(gradient), v);
    vec<T> m = this->average(get(exp_avg), g), s = this->average_square(get(exp_avg_sq), g);
    put(exp_avg, m);
    put(exp_avg_sq, s);
    if (max_exp_avg_sq) {
      vec<T> largest = get(max_exp_avg_sq);
      s = select<T>((s > largest) | (s != s), s, largest);
      put(max_exp_avg_sq, s);
    }
    put(value, v - step_size * m / (sqrt<T>(s) * root_scale + this->epsilon));
  }
};

template <class T>
struct nadam_rule : moments<T> {
  vec<T> root_scale, gradient_step, average_step;

  explicit nadam_rule(const hominy_nadam& s)
      : moments<T>(s),
        root_scale(broadcast(T(1 / ::sqrt(correction(s.beta2, s.step))))),
        gradient_step(broadcast(T(s.learning_rate * (1 - s.mu) / (1 - s.mu_product)))),
        average_step(broadcast(T(s.learning_rate * s.mu_next / (1 - s.mu_product * s.mu_next)))) {}

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* exp_avg, T* exp_avg_sq, T*, Get get, Put put) const {
    vec<T> v = this->shrink * get(value), g = this->follow(get(gradient), v);
    vec<T> m = this->average(get(exp_avg), g), s = this->average_square(get(exp_avg_sq), g);
    put(exp_avg, m);
    put(exp_avg_sq, s);
    put(value, v - (gradient_step * g + average_step * m) / (sqrt<T>(s) * root_scale + this->epsilon));
  }
};

template <class T>
struct radam_rule : moments<T> {
  vec<T> step_size;
  bool rectified;

  explicit radam_rule(const hominy_adam& s) : moments<T>(s) {
    const double limit = 2 / (1 - s.beta2) - 1, correction2 = correction(s.beta2, s.step);
    const double length = limit - 2 * double(s.step) * pow(s.beta2, double(s.step)) / correction2;
    double size = s.learning_rate / correction(s.beta1, s.step);
    rectified = length > 5;
    if (rectified)
      size *= ::sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length) * correction2);
    step_size = broadcast(T(size));
  }

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* exp_avg, T* exp_avg_sq, T*, Get get, Put put) const {
    vec<T> v = this->shrink * get(value), g = this->follow(get(gradient), v);
    vec<T> m = this->average(get(exp_avg), g), s = this->average_square(get(exp_avg_sq), g);
    put(exp_avg, m);
    put(exp_avg_sq, s);
    put(value, rectified ? v - step_size * m / (sqrt<T>(s) + this->epsilon) : v - step_size * m);
  }
};

template <class T>
struct adamax_rule {
  direction<T> follow;
  running_mean<T> average;
  vec<T> beta2, epsilon, step_size;

  explicit adamax_rule(const hominy_adam& s)
      : follow(s.maximize, s.weight_decay),
        average(s.beta1),
        beta2(broadcast(T(s.beta2))),
        epsilon(broadcast(T(s.epsilon))),
        step_size(broadcast(T(s.learning_rate / correction(s.beta1, s.step)))) {}

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* exp_avg, T* exp_inf, T*, Get get, Put put) const {
    vec<T> v = get(value), g = follow(get(gradient), v);
    vec<T> m = average(get(exp_avg), g), old = beta2 * get(exp_inf), now = absolute<T>(g) + epsilon;
    vec<T> largest = select<T>((now > old) | (now != now), now, old);
    put(exp_avg, m);
    put(exp_inf, largest);
    put(value, v - step_size * m / largest);
  }
};

template <class T>
struct rmsprop_rule {
  direction<T> follow;
  running_square<T> average_square;
  running_mean<T> average;
  vec<T> learning_rate, epsilon, momentum;
  bool use_momentum, centered;

  explicit rmsprop_rule(const hominy_rmsprop& s)
      : follow(s.maximize, s.weight_decay),
        average_square(s.alpha),
        average(s.alpha),
        learning_rate(broadcast(T(s.learning_rate))),
        epsilon(broadcast(T(s.epsilon))),
        momentum(broadcast(T(s.momentum))),
        use_momentum(s.momentum != 0),
        centered(s.centered != 0) {}

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* square_avg, T* buffer, T* grad_avg, Get get, Put put) const {
    vec<T> v = get(value), g = follow(get(gradient), v), s = average_square(get(square_avg), g);
    put(square_avg, s);
    if (centered) {
      vec<T> m = average(get(grad_avg), g);
      put(grad_avg, m);
      s = s - m * m;
      s = select<T>(s < T(0), vec<T>{}, s);  // a variance that rounding made negative
    }
    vec<T> b = g / (sqrt<T>(s) + epsilon);
    if (use_momentum) {
      b = momentum * get(buffer) + b;
      put(buffer, b);
    }
    put(value, v - learning_rate * b);
  }
};

template <class T>
struct adagrad_rule {
  direction<T> follow;
  vec<T> step_size, epsilon;

  explicit adagrad_rule(const hominy_adagrad& s)
      : follow(s.maximize, s.weight_decay),
        step_size(broadcast(T(s.learning_rate / (1 + double(s.step - 1) * s.learning_rate_decay)))),
        epsilon(broadcast(T(s.epsilon))) {}

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* sum, T*, T*, Get get, Put put) const {
    vec<T> v = get(value), g = follow(get(gradient), v), s = get(sum) + g * g;
    put(sum, s);
    put(value, v - step_size * g / (sqrt<T>(s) + epsilon));
  }
};

template <class T>
struct adadelta_rule {
  direction<T> follow;
  running_square<T> average_square;
  vec<T> learning_rate, epsilon;

  explicit adadelta_rule(const hominy_adadelta& s)
      : follow(s.maximize, s.weight_decay),
        average_square(s.rho),
        learning_rate(broadcast(T(s.learning_rate))),
        epsilon(broadcast(T(s.epsilon))) {}

  template <class Get, class Put>
  void step(T* value, const T* gradient, T* square_avg, T* acc_delta, T*, Get get, Put put) const {
    vec<T> v = get(value), g = follow(get(gradient), v), s = average_square(get(square_avg), g), d = get(acc_delta);
    vec<T> delta = sqrt<T>(d + epsilon) / sqrt<T>(s + epsilon) * g;
    put(square_avg, s);
    put(acc_delta, average_square(d, delta));
    put(value, v - learning_rate * delta);
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

// Checks every parameter, then steps all of them. Bits 0, 1, 2 of `needs`: the rule needs state1, state2, state3.
template <template <class> class Rule, class Settings>
hominy_status step_all(const hominy_parameter* parameters, int64_t count, const Settings& settings, int needs) {
  if (count < 0) return HOMINY_BAD_SHAPE;
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) {
    const hominy_parameter& p = parameters[i];
    if (p.dtype != HOMINY_FLOAT32 && p.dtype != HOMINY_FLOAT64) return HOMINY_BAD_DTYPE;
    if (p.size < 0) return HOMINY_BAD_SHAPE;
    if (p.size > 0 && (!p.value || !p.gradient || ((needs & 1) && !p.state1) || ((needs & 2) && !p.state2) ||
                       ((needs & 4) && !p.state3)))
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
  return step_all<adam_rule>(parameters, count, *settings, 3);
}

hominy_status nadam_step(const hominy_parameter* parameters, int64_t count, const hominy_nadam* settings) {
  if (settings->step < 1) return HOMINY_BAD_VALUE;
  return step_all<nadam_rule>(parameters, count, *settings, 3);
}

hominy_status radam_step(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings) {
  if (settings->step < 1) return HOMINY_BAD_VALUE;
  return step_all<radam_rule>(parameters, count, *settings, 3);
}

hominy_status adamax_step(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings) {
  if (settings->step < 1 || settings->decoupled) return HOMINY_BAD_VALUE;
  return step_all<adamax_rule>(parameters, count, *settings, 3);
}

hominy_status rmsprop_step(const hominy_parameter* parameters, int64_t count, const hominy_rmsprop* settings) {
  const int needs = 1 | (settings->momentum != 0 ? 2 : 0) | (settings->centered ? 4 : 0);
  return step_all<rmsprop_rule>(parameters, count, *settings, needs);
}

hominy_status adagrad_step(const hominy_parameter* parameters, int64_t count, const hominy_adagrad* settings) {
  if (settings->step < 1) return HOMINY_BAD_VALUE;
  return step_all<adagrad_rule>(parameters, count, *settings, 1);
}

hominy_status adadelta_step(const hominy_parameter* parameters, int64_t count, const hominy_adadelta* settings) {
  return step_all<adadelta_rule>(parameters, count, *settings, 3);
}

}  // namespace hominy::HOMINY_LEVEL
