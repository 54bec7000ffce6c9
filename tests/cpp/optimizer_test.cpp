// Optimizer steps against PyTorch's formulas in long double, over several steps and parameters of many sizes.
#include <math.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "test_array.hpp"

namespace test {
namespace {

// One parameter's arrays, and what they were before the step.
struct parameter {
  array value, gradient, state1, state2, state3;
  std::vector<real> old_value, old1, old2, old3;

  parameter(int32_t dtype, int64_t size, uint64_t seed, layout kind)
      : value(dtype, {size}, kind),
        gradient(dtype, {size}, kind),
        state1(dtype, {size}, kind),
        state2(dtype, {size}, kind),
        state3(dtype, {size}, kind) {
    value.fill_uniform(seed, -1, 1);
    state1.fill_uniform(seed + 2, -0.1, 0.1);
    state2.fill_uniform(seed + 3, 0.01, 0.1);
    state3.fill_uniform(seed + 4, 0.01, 0.1);
    new_gradient(seed + 1);
  }
  void new_gradient(uint64_t seed) { gradient.fill_uniform(seed, -1, 1); }
  void remember() {
    const auto all = [](const array& a) {
      std::vector<real> values(size_t(a.size()));
      for (size_t i = 0; i < values.size(); ++i) values[i] = a[int64_t(i)];
      return values;
    };
    old_value = all(value), old1 = all(state1), old2 = all(state2), old3 = all(state3);
  }
  hominy_parameter descriptor(int states) const {
    return {value.data(),
            gradient.data(),
            states > 0 ? state1.data() : nullptr,
            states > 1 ? state2.data() : nullptr,
            states > 2 ? state3.data() : nullptr,
            value.size(),
            value.dtype()};
  }
};
using model = std::vector<std::unique_ptr<parameter>>;

model make_model(const std::vector<int64_t>& sizes, int32_t dtype, layout kind) {
  model all;
  for (size_t i = 0; i < sizes.size(); ++i) {
    // With dtype -1 the parameters take turns: one call steps both types.
    const int32_t own = dtype >= 0 ? dtype : i % 2 ? HOMINY_FLOAT64 : HOMINY_FLOAT32;
    all.push_back(std::make_unique<parameter>(own, sizes[i], 10 * i + 1, kind));
  }
  return all;
}
std::vector<hominy_parameter> descriptors(const model& parameters, int states) {
  std::vector<hominy_parameter> all;
  for (const auto& p : parameters) all.push_back(p->descriptor(states));
  return all;
}

real rounded(int32_t dtype, double x) { return dtype == HOMINY_FLOAT32 ? real(float(x)) : real(x); }

void check_sgd(const level& here, const std::vector<int64_t>& sizes, int32_t dtype, layout kind, hominy_sgd settings,
               const std::string& what) {
  const model parameters = make_model(sizes, dtype, kind);
  const bool momentum = settings.momentum != 0;
  for (int step = 0; step < 3; ++step) {
    for (const auto& p : parameters) p->new_gradient(uint64_t(step + 77)), p->remember();
    settings.first_step = step == 0;
    const auto list = descriptors(parameters, momentum ? 1 : 0);
    if (!check_status(here.kernels->sgd_step(list.data(), int64_t(list.size()), &settings), HOMINY_OK, what)) return;
    for (const auto& p : parameters) {
      const real u = unit_roundoff(p->value.dtype()), sign = settings.maximize ? -1 : 1;
      const auto r = [&](double x) { return rounded(p->value.dtype(), x); };
      struct exact {
        real buffer, direction, magnitude;
      };
      const auto formula = [&](int64_t i) {
        const real decay = r(settings.weight_decay) * p->old_value[size_t(i)], g = sign * p->gradient[i] + decay;
        const real terms = fabsl(p->gradient[i]) + fabsl(decay);
        if (!momentum) return exact{0, g, terms};
        const real mu = r(settings.momentum), old = p->old1[size_t(i)];
        const real kept = settings.first_step ? 0 : mu * old;
        const real added = settings.first_step ? g : r(1 - settings.dampening) * g;
        const real buffer = kept + added, sum = fabsl(kept) + terms;
        return settings.nesterov ? exact{buffer, g + mu * buffer, terms + mu * sum} : exact{buffer, buffer, sum};
      };
      check_elements(p->value, what + " value", [&](int64_t i) {
        const exact e = formula(i);
        const real lr = r(settings.learning_rate), value = p->old_value[size_t(i)] - lr * e.direction;
        return expectation{value, 16 * u * lr * e.magnitude + 2 * u * fabsl(value)};
      });
      if (momentum)
        check_elements(p->state1, what + " buffer", [&](int64_t i) {
          const exact e = formula(i);
          return expectation{e.buffer, 12 * u * e.magnitude};
        });
      check(p->gradient.untouched(), "%s: wrote to the gradient", what.c_str());
    }
  }
}

void check_adam(const level& here, const std::vector<int64_t>& sizes, int32_t dtype, layout kind, hominy_adam settings,
                bool amsgrad, const std::string& what) {
  const model parameters = make_model(sizes, dtype, kind);
  for (int64_t step : {1, 2, 1000}) {
    for (const auto& p : parameters) p->new_gradient(uint64_t(step + 77)), p->remember();
    settings.step = step;
    const auto list = descriptors(parameters, amsgrad ? 3 : 2);
    if (!check_status(here.kernels->adam_step(list.data(), int64_t(list.size()), &settings), HOMINY_OK, what)) return;
    for (const auto& p : parameters) {
      const real u = unit_roundoff(p->value.dtype()), sign = settings.maximize ? -1 : 1;
      const auto r = [&](double x) { return rounded(p->value.dtype(), x); };
      const real shrink = settings.decoupled ? r(1 - settings.learning_rate * settings.weight_decay) : 1;
      const real decay = settings.decoupled ? 0 : r(settings.weight_decay);
      const auto gradient = [&](int64_t i) { return sign * p->gradient[i] + decay * p->old_value[size_t(i)]; };
      const auto terms = [&](int64_t i) { return fabsl(p->gradient[i]) + decay * fabsl(p->old_value[size_t(i)]); };
      check_elements(p->state1, what + " exp_avg", [&](int64_t i) {
        const real g = gradient(i), m = p->old1[size_t(i)];
        return expectation{m + r(1 - settings.beta1) * (g - m), 8 * u * (fabsl(m) + terms(i))};
      });
      check_elements(p->state2, what + " exp_avg_sq", [&](int64_t i) {
        const real g = gradient(i), kept = r(settings.beta2) * p->old2[size_t(i)];
        return expectation{kept + r(1 - settings.beta2) * g * g,
                           8 * u * (kept + r(1 - settings.beta2) * terms(i) * terms(i))};
      });
      if (amsgrad)
        check_elements(p->state3, what + " max_exp_avg_sq",
                       [&](int64_t i) { return expectation{std::max(p->old3[size_t(i)], p->state2[i]), 0}; });
      // From the states as stored: their errors are not the update's.
      const array& squares = amsgrad ? p->state3 : p->state2;
      // Scalars are computed in float64: 1 - beta^step loses digits there, as it does in PyTorch.
      const double correction1 = 1 - pow(settings.beta1, double(step)),
                   correction2 = 1 - pow(settings.beta2, double(step));
      check_elements(p->value, what + " value", [&](int64_t i) {
        const real root = sqrtl(squares[i]) / sqrtl(correction2) + r(settings.epsilon);
        const real update = r(settings.learning_rate / correction1) * p->state1[i] / root;
        const real old = shrink * p->old_value[size_t(i)];
        return expectation{old - update, u * (20 * fabsl(update) + 3 * fabsl(old))};
      });
      check(p->gradient.untouched(), "%s: wrote to the gradient", what.c_str());
    }
  }
}

const hominy_sgd sgd_settings[] = {
    {0.1, 0, 0, 0, 0, 0, 0},        {0.1, 0, 0, 0.01, 0, 0, 0},   {0.1, 0.9, 0, 0, 0, 0, 0},
    {0.1, 0.9, 0.5, 0.01, 0, 0, 0}, {0.1, 0.9, 0, 0.01, 1, 0, 0}, {0.1, 0.9, 0, 0.01, 1, 1, 0},
};
const hominy_adam adam_settings[] = {
    {1e-3, 0.9, 0.999, 1e-8, 0, 1, 0, 0},
    {1e-3, 0.9, 0.999, 1e-8, 0.01, 1, 0, 0},
    {1e-3, 0.9, 0.999, 1e-8, 0.01, 1, 1, 0},
    {1e-2, 0.4, 0.99, 1e-6, 0.01, 1, 1, 1},
};

void values(const level& here, int32_t dtype) {
  const std::vector<int64_t> sizes = here.sizes(dtype);
  int number = 0;
  for (const hominy_sgd& settings : sgd_settings) {
    const std::string what = "sgd settings " + std::to_string(number++);
    for (layout kind : {layout::contiguous, layout::misaligned}) {
      check_sgd(here, sizes, dtype, kind, settings, what);
      check_sgd(here, sizes, -1, kind, settings, what + ", both dtypes");
    }
    check_sgd(here, {}, dtype, layout::contiguous, settings, what);
    check_sgd(here, {40009, 3, 17000}, dtype, layout::contiguous, settings, what);
  }
  number = 0;
  for (const hominy_adam& settings : adam_settings)
    for (bool amsgrad : {false, true}) {
      const std::string what = "adam settings " + std::to_string(number++);
      for (layout kind : {layout::contiguous, layout::misaligned}) {
        check_adam(here, sizes, dtype, kind, settings, amsgrad, what);
        check_adam(here, sizes, -1, kind, settings, amsgrad, what + ", both dtypes");
      }
      check_adam(here, {}, dtype, layout::contiguous, settings, amsgrad, what);
      check_adam(here, {40009, 3, 17000}, dtype, layout::contiguous, settings, amsgrad, what);
    }
}

// The rules besides SGD and Adam: one step of each, its states and value in long double.
struct stepped {
  real value, update, state1, magnitude1, state2, magnitude2, state3, magnitude3;
};

void check_rule(const std::vector<int64_t>& sizes, int32_t dtype, layout kind, int states,
                const std::function<hominy_status(const hominy_parameter*, int64_t)>& run,
                const std::function<stepped(real v, real g, real s1, real s2, real s3, int32_t dtype)>& formula,
                const std::string& what) {
  const model parameters = make_model(sizes, dtype, kind);
  for (const auto& p : parameters) {
    p->new_gradient(77);
    p->state1.fill_uniform(5, 0.1, 0.3);  // a mean of squares is not negative, nor below the square of the mean
    p->remember();
  }
  auto list = descriptors(parameters, states & 4 ? 3 : states & 2 ? 2 : 1);
  for (hominy_parameter& one : list)
    if (!(states & 2)) one.state2 = nullptr;
  if (!check_status(run(list.data(), int64_t(list.size())), HOMINY_OK, what)) return;
  for (const auto& p : parameters) {
    const real u = unit_roundoff(p->value.dtype());
    const auto at = [&](int64_t i) {
      const size_t k = size_t(i);
      return formula(p->old_value[k], p->gradient[i], p->old1[k], p->old2[k], p->old3[k], p->value.dtype());
    };
    check_elements(p->value, what + " value", [&](int64_t i) {
      const stepped e = at(i);
      return expectation{e.value, u * (32 * e.update + 4 * (fabsl(e.value) + fabsl(p->old_value[size_t(i)])))};
    });
    check_elements(p->state1, what + " state1",
                   [&](int64_t i) { return expectation{at(i).state1, 16 * u * at(i).magnitude1}; });
    if (states & 2)
      check_elements(p->state2, what + " state2",
                     [&](int64_t i) { return expectation{at(i).state2, 16 * u * at(i).magnitude2}; });
    if (states & 4)
      check_elements(p->state3, what + " state3",
                     [&](int64_t i) { return expectation{at(i).state3, 16 * u * at(i).magnitude3}; });
    check(p->gradient.untouched(), "%s: wrote to the gradient", what.c_str());
  }
}

void other_rules(const level& here, int32_t dtype) {
  const double lr = 0.01, beta1 = 0.9, beta2 = 0.99, eps = 1e-6, wd = 0.02;
  const real up = -1;  // every rule climbs here
  const auto square = [](real x) { return x * x; };
  const auto direction = [&](real v, real g, int32_t t) { return up * g + rounded(t, wd) * v; };
  const auto terms = [&](real v, real g) { return fabsl(g) + wd * fabsl(v); };
  const auto mean = [&](real m, real g, double beta, int32_t t) { return m + rounded(t, 1 - beta) * (g - m); };
  const auto mean_square = [&](real s, real g, double beta, int32_t t) {
    return rounded(t, beta) * s + rounded(t, 1 - beta) * square(g);
  };
  const auto mean_of = [&](real m, real size) { return fabsl(m) + size; };
  // What cancelled inside the gradient comes back through the root.
  const auto lost = [&](real exact, real size) { return exact > 0 ? std::max(real(1), size / exact) : real(1); };

  for (layout kind : {layout::contiguous, layout::misaligned})
    for (const std::vector<int64_t>& sizes : {here.sizes(dtype), std::vector<int64_t>{40009, 3, 17000}}) {
      const auto each = [&](const char* name, int states, auto run, auto formula) {
        if (sizes.size() == 3 && kind != layout::contiguous) return;  // the large ones once
        check_rule(sizes, dtype, kind, states, run, formula, name);
        if (sizes.size() != 3) check_rule(sizes, -1, kind, states, run, formula, std::string(name) + ", both dtypes");
      };
      for (int64_t step : {2, 40}) {
        const hominy_adam adam = {lr, beta1, beta2, eps, wd, step, 0, 1};
        const double correction1 = 1 - pow(beta1, double(step)), correction2 = 1 - pow(beta2, double(step));
        const double limit = 2 / (1 - beta2) - 1, n = limit - 2 * double(step) * pow(beta2, double(step)) / correction2;
        each(
            "radam", 3, [&](auto* p, int64_t count) { return here.kernels->radam_step(p, count, &adam); },
            [&](real v, real g, real s1, real s2, real, int32_t t) {
              const real d = direction(v, g, t), size = terms(v, g), m = mean(s1, d, beta1, t);
              const real s = mean_square(s2, d, beta2, t), whole = mean_square(s2, size, beta2, t);
              real scale = lr / correction1;
              if (n > 5)
                scale *=
                    sqrtl((n - 4) * (n - 2) * limit / ((limit - 4) * (limit - 2) * n) * correction2) / (sqrtl(s) + eps);
              const real update = scale * mean_of(s1, size) * lost(s, whole);
              return stepped{v - scale * m, update, m, mean_of(s1, size), s, whole, 0, 0};
            });
        each(
            "adamax", 3, [&](auto* p, int64_t count) { return here.kernels->adamax_step(p, count, &adam); },
            [&](real v, real g, real s1, real s2, real, int32_t t) {
              const real d = direction(v, g, t), size = terms(v, g), m = mean(s1, d, beta1, t);
              const real largest = std::max(rounded(t, beta2) * s2, fabsl(d) + rounded(t, eps));
              const real scale = lr / correction1 / largest;
              const real update = scale * mean_of(s1, size) * lost(largest, s2 + size);
              return stepped{v - scale * m, update, m, mean_of(s1, size), largest, s2 + size, 0, 0};
            });
        const hominy_nadam nadam = {lr, beta1, beta2, eps, wd, step, 0, 1, 0.5, 0.6, 0.3};
        each(
            "nadam", 3, [&](auto* p, int64_t count) { return here.kernels->nadam_step(p, count, &nadam); },
            [&](real v, real g, real s1, real s2, real, int32_t t) {
              const real d = direction(v, g, t), size = terms(v, g), m = mean(s1, d, beta1, t);
              const real s = mean_square(s2, d, beta2, t), whole = mean_square(s2, size, beta2, t);
              const real of_g = lr * 0.5 / 0.7, of_m = lr * 0.6 / (1 - 0.3 * 0.6);
              const real root = sqrtl(s / correction2) + eps;
              const real update = (of_g * size + of_m * mean_of(s1, size)) / root * lost(s, whole);
              return stepped{v - (of_g * d + of_m * m) / root, update, m, mean_of(s1, size), s, whole, 0, 0};
            });
        const hominy_adagrad adagrad = {lr, 0.1, eps, wd, step, 1};
        each(
            "adagrad", 1, [&](auto* p, int64_t count) { return here.kernels->adagrad_step(p, count, &adagrad); },
            [&](real v, real g, real s1, real, real, int32_t t) {
              const real d = direction(v, g, t), size = terms(v, g), s = s1 + square(d);
              const real scale = lr / (1 + double(step - 1) * 0.1) / (sqrtl(s) + eps);
              return stepped{
                  v - scale * d, scale * size * lost(s, s1 + square(size)), s, s1 + square(size), 0, 0, 0, 0};
            });
      }
      const hominy_adadelta adadelta = {lr, 0.9, eps, wd, 1};
      each(
          "adadelta", 3, [&](auto* p, int64_t count) { return here.kernels->adadelta_step(p, count, &adadelta); },
          [&](real v, real g, real s1, real s2, real, int32_t t) {
            const real d = direction(v, g, t), size = terms(v, g);
            const real s = mean_square(s1, d, 0.9, t), whole = mean_square(s1, size, 0.9, t);
            const real scale = sqrtl((s2 + eps) / (s + eps)), delta = scale * d;
            const real update = scale * size * lost(s, whole);
            return stepped{v - lr * delta,
                           lr * update,
                           s,
                           whole,
                           mean_square(s2, delta, 0.9, t),
                           2 * mean_square(s2, update, 0.9, t),
                           0,
                           0};
          });
      for (const int states : {1, 3, 5, 7}) {
        const double momentum = states & 2 ? 0.9 : 0;
        const hominy_rmsprop rmsprop = {lr, 0.9, eps, wd, momentum, states & 4, 1};
        each(
            "rmsprop", states, [&](auto* p, int64_t count) { return here.kernels->rmsprop_step(p, count, &rmsprop); },
            [&](real v, real g, real s1, real s2, real s3, int32_t t) {
              const real d = direction(v, g, t), size = terms(v, g);
              const real s = mean_square(s1, d, 0.9, t), whole = mean_square(s1, size, 0.9, t), m = mean(s3, d, 0.9, t);
              const real variance = states & 4 ? std::max(real(0), s - m * m) : s;
              const real of_m = states & 4 ? square(mean_of(s3, size)) : 0, root = sqrtl(variance) + eps;
              const real kept = states & 2 ? rounded(t, momentum) * s2 : 0;
              const real b = kept + d / root, update = fabsl(kept) + size / root * lost(variance, whole + of_m);
              return stepped{v - lr * b, lr * update, s, whole, b, 2 * update, m, mean_of(s3, size)};
            });
      }
    }
}

void refusals(const level& here, int32_t dtype) {
  // The second parameter is the bad one: the first must not have been stepped.
  const auto attempt = [&](const std::string& what, std::vector<hominy_status> allowed, auto spoil, bool adam_only) {
    for (bool adam : {false, true}) {
      if (adam_only && !adam) continue;
      const model parameters = make_model({9, 9}, dtype, layout::contiguous);
      auto list = descriptors(parameters, adam ? 2 : 1);
      hominy_sgd sgd = sgd_settings[2];
      hominy_adam settings = adam_settings[0];
      int64_t count = 2;
      spoil(list[1], count, sgd, settings);
      const hominy_status status = adam ? here.kernels->adam_step(list.data(), count, &settings)
                                        : here.kernels->sgd_step(list.data(), count, &sgd);
      for (const auto& p : parameters) {
        check_refused(status, allowed, p->value, (adam ? "adam: " : "sgd: ") + what);
        check(p->state1.untouched() && p->state2.untouched(), "%s: wrote to a state", what.c_str());
      }
    }
  };
  using P = hominy_parameter;
  const std::vector<hominy_status> shape = {HOMINY_BAD_SHAPE}, value = {HOMINY_BAD_VALUE};
  attempt("integer parameter", {HOMINY_BAD_DTYPE}, [](P& p, auto&, auto&, auto&) { p.dtype = HOMINY_INT32; }, false);
  attempt("float16 parameter", {HOMINY_BAD_DTYPE}, [](P& p, auto&, auto&, auto&) { p.dtype = HOMINY_FLOAT16; }, false);
  attempt("unknown dtype", {HOMINY_BAD_DTYPE}, [](P& p, auto&, auto&, auto&) { p.dtype = -7; }, false);
  attempt("negative size", shape, [](P& p, auto&, auto&, auto&) { p.size = -1; }, false);
  attempt("most negative size", shape, [](P& p, auto&, auto&, auto&) { p.size = INT64_MIN; }, false);
  attempt("huge size", {HOMINY_OVERFLOW}, [](P& p, auto&, auto&, auto&) { p.size = INT64_MAX; }, false);
  attempt("negative count", {HOMINY_BAD_SHAPE, HOMINY_BAD_VALUE}, [](P&, int64_t& n, auto&, auto&) { n = -1; }, false);
  attempt("no value", value, [](P& p, auto&, auto&, auto&) { p.value = nullptr; }, false);
  attempt("no gradient", value, [](P& p, auto&, auto&, auto&) { p.gradient = nullptr; }, false);
  attempt("no first state", value, [](P& p, auto&, auto&, auto&) { p.state1 = nullptr; }, false);
  attempt("no second state", value, [](P& p, auto&, auto&, auto&) { p.state2 = nullptr; }, true);
  attempt("step 0", value, [](P&, auto&, auto&, hominy_adam& a) { a.step = 0; }, true);
  attempt("step -1", value, [](P&, auto&, auto&, hominy_adam& a) { a.step = -1; }, true);
}

void other_refusals(const level& here, int32_t dtype) {
  const model parameters = make_model({9, 9}, dtype, layout::contiguous);
  const auto list = descriptors(parameters, 2);
  auto one_state = list, no_gradient = list;
  one_state[1].state2 = nullptr;
  no_gradient[1].gradient = nullptr;
  hominy_adam adam = adam_settings[0], decoupled = adam, early = adam;
  decoupled.decoupled = 1;
  early.step = 0;
  const hominy_nadam nadam = {1e-3, 0.9, 0.99, 1e-8, 0, 0, 0, 0, 0.4, 0.4, 0.4};
  const hominy_rmsprop centered = {1e-3, 0.9, 1e-8, 0, 0, 1, 0}, momentum = {1e-3, 0.9, 1e-8, 0, 0.9, 0, 0};
  const hominy_adagrad adagrad = {1e-3, 0, 1e-8, 0, 0, 0};
  const hominy_adadelta adadelta = {1, 0.9, 1e-6, 0, 0};
  const hominy_kernels& k = *here.kernels;
  const std::pair<const char*, hominy_status> attempts[] = {
      {"adamax, decoupled", k.adamax_step(list.data(), 2, &decoupled)},
      {"adamax, step 0", k.adamax_step(list.data(), 2, &early)},
      {"radam, step 0", k.radam_step(list.data(), 2, &early)},
      {"radam, one state", k.radam_step(one_state.data(), 2, &adam)},
      {"nadam, step 0", k.nadam_step(list.data(), 2, &nadam)},
      {"adagrad, step 0", k.adagrad_step(list.data(), 2, &adagrad)},
      {"rmsprop, centered without grad_avg", k.rmsprop_step(list.data(), 2, &centered)},
      {"rmsprop, momentum without buffer", k.rmsprop_step(one_state.data(), 2, &momentum)},
      {"adadelta, one state", k.adadelta_step(one_state.data(), 2, &adadelta)},
      {"adadelta, no gradient", k.adadelta_step(no_gradient.data(), 2, &adadelta)},
  };
  for (const auto& [what, status] : attempts)
    for (const auto& p : parameters) check_refused(status, {HOMINY_BAD_VALUE}, p->value, what);
}

void threads(const level& here, int32_t dtype) {
  const int64_t n = here.settings.quick ? 50021 : 300007;
  const auto bits_after = [&](layout kind, bool adam) {
    const model parameters = make_model({n, 5, 12345}, dtype, kind);
    const auto list = descriptors(parameters, adam ? 2 : 1);
    if (adam)
      here.kernels->adam_step(list.data(), 3, &adam_settings[1]);
    else
      here.kernels->sgd_step(list.data(), 3, &sgd_settings[4]);
    std::vector<unsigned char> all;
    for (const auto& p : parameters)
      for (const array* a : {&p->value, &p->state1, &p->state2}) {
        const auto bits = a->bits();
        all.insert(all.end(), bits.begin(), bits.end());
      }
    return all;
  };
  for (bool adam : {false, true}) {
    same_bits_for_any_number_of_threads(adam ? "adam" : "sgd", [&] { return bits_after(layout::contiguous, adam); });
    check(bits_after(layout::contiguous, adam) == bits_after(layout::misaligned, adam), "other bits when misaligned");
  }
}

}  // namespace

void optimizer_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("optimizer", values);
    group("optimizer, other rules", other_rules);
    group("optimizer refusals", refusals);
    group("optimizer refusals, other rules", other_refusals);
    group("optimizer threads and alignment", threads);
  }
}

}  // namespace test
