// Optimizer steps against PyTorch's formulas in long double, over several steps and parameters of many sizes.
#include <math.h>

#include <algorithm>
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
    group("optimizer refusals", refusals);
    group("optimizer threads and alignment", threads);
  }
}

}  // namespace test
