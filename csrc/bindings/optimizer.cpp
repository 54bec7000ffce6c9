// Whole-model optimizer steps.
#include "bindings.hpp"

namespace hominy {
namespace {

// The arrays of a whole-model step, one list a role: `values[i]`, `gradients[i]`, `states[0][i]`, ...
std::vector<hominy_parameter> collect_parameters(const char* op, const py::list& values, const py::list& gradients,
                                                 std::initializer_list<std::pair<const char*, py::object>> states) {
  std::vector<hominy_parameter> parameters(values.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    hominy_tensor value = describe_floating(op, "values", values[i]);
    auto pointer = [&](const char* role, const py::list& list, bool written) -> void* {
      if (list.size() != values.size())
        raise_value(op, role, std::to_string(values.size()) + " arrays", std::to_string(list.size()));
      hominy_tensor t = describe_floating(op, role, list[i]);
      require_shape(op, role, value, t);
      require_same_dtype(op, role, value, t);
      if (!is_c_contiguous(t))
        throw declined{std::string("native steps contiguous arrays; ") + role + " has a strided one"};
      if (written &&
          !(py::detail::array_proxy(py::object(list[i]).ptr())->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_))
        raise_value(op, role, "writeable arrays", "a read-only one");
      return t.data;
    };
    hominy_parameter& parameter = parameters[i];
    parameter.value = pointer("values", values, true);
    parameter.gradient = pointer("gradients", gradients, false);
    void** slots[] = {&parameter.state1, &parameter.state2, &parameter.state3};
    int slot = 0;
    for (const auto& [role, list] : states) *slots[slot++] = list.is_none() ? nullptr : pointer(role, list, true);
    while (slot < 3) *slots[slot++] = nullptr;
    parameter.size = element_count(value);
    parameter.dtype = value.dtype;
  }
  return parameters;
}

int64_t total_size(const std::vector<hominy_parameter>& parameters) {
  int64_t total = 0;
  for (const hominy_parameter& parameter : parameters) total += parameter.size;
  return total;
}

template <class Settings>
using step_kernel = hominy_status (*hominy_kernels::*)(const hominy_parameter*, int64_t, const Settings*);

template <class Settings>
py::object run_step(const char* op, step_kernel<Settings> kernel, const py::list& values, const py::list& gradients,
                    std::initializer_list<std::pair<const char*, py::object>> states, const Settings& settings) {
  return declining([&]() -> py::object {
    auto parameters = collect_parameters(op, values, gradients, states);
    unlocked without_lock(total_size(parameters) >= unlock_elements);
    require_ok(op, (kernels->*kernel)(parameters.data(), int64_t(parameters.size()), &settings));
    return py::none();
  });
}

py::object run_sgd_step(const py::list& values, const py::list& gradients, const py::object& buffers,
                        double learning_rate, double momentum, double dampening, double weight_decay, bool nesterov,
                        bool maximize, bool first_step) {
  return run_step<hominy_sgd>("sgd_step", &hominy_kernels::sgd_step, values, gradients, {{"buffers", buffers}},
                              {learning_rate, momentum, dampening, weight_decay, nesterov, maximize, first_step});
}

py::object run_adam_step(const py::list& values, const py::list& gradients, const py::list& exp_avgs,
                         const py::list& exp_avg_sqs, const py::object& max_exp_avg_sqs, int64_t step,
                         double learning_rate, double beta1, double beta2, double epsilon, double weight_decay,
                         bool decoupled, bool maximize) {
  return run_step<hominy_adam>(
      "adam_step", &hominy_kernels::adam_step, values, gradients,
      {{"exp_avgs", exp_avgs}, {"exp_avg_sqs", exp_avg_sqs}, {"max_exp_avg_sqs", max_exp_avg_sqs}},
      {learning_rate, beta1, beta2, epsilon, weight_decay, step, decoupled, maximize});
}

py::object run_nadam_step(const py::list& values, const py::list& gradients, const py::list& exp_avgs,
                          const py::list& exp_avg_sqs, int64_t step, double learning_rate, double beta1, double beta2,
                          double epsilon, double weight_decay, bool decoupled, bool maximize, double mu, double mu_next,
                          double mu_product) {
  return run_step<hominy_nadam>(
      "nadam_step", &hominy_kernels::nadam_step, values, gradients,
      {{"exp_avgs", exp_avgs}, {"exp_avg_sqs", exp_avg_sqs}},
      {learning_rate, beta1, beta2, epsilon, weight_decay, step, decoupled, maximize, mu, mu_next, mu_product});
}

py::object run_radam_step(const py::list& values, const py::list& gradients, const py::list& exp_avgs,
                          const py::list& exp_avg_sqs, int64_t step, double learning_rate, double beta1, double beta2,
                          double epsilon, double weight_decay, bool decoupled, bool maximize) {
  return run_step<hominy_adam>("radam_step", &hominy_kernels::radam_step, values, gradients,
                               {{"exp_avgs", exp_avgs}, {"exp_avg_sqs", exp_avg_sqs}},
                               {learning_rate, beta1, beta2, epsilon, weight_decay, step, decoupled, maximize});
}

py::object run_adamax_step(const py::list& values, const py::list& gradients, const py::list& exp_avgs,
                           const py::list& exp_infs, int64_t step, double learning_rate, double beta1, double beta2,
                           double epsilon, double weight_decay, bool maximize) {
  return run_step<hominy_adam>("adamax_step", &hominy_kernels::adamax_step, values, gradients,
                               {{"exp_avgs", exp_avgs}, {"exp_infs", exp_infs}},
                               {learning_rate, beta1, beta2, epsilon, weight_decay, step, false, maximize});
}

py::object run_rmsprop_step(const py::list& values, const py::list& gradients, const py::list& square_avgs,
                            const py::object& buffers, const py::object& grad_avgs, double learning_rate, double alpha,
                            double epsilon, double weight_decay, double momentum, bool maximize) {
  return run_step<hominy_rmsprop>(
      "rmsprop_step", &hominy_kernels::rmsprop_step, values, gradients,
      {{"square_avgs", square_avgs}, {"buffers", buffers}, {"grad_avgs", grad_avgs}},
      {learning_rate, alpha, epsilon, weight_decay, momentum, !grad_avgs.is_none(), maximize});
}

py::object run_adagrad_step(const py::list& values, const py::list& gradients, const py::list& sums, int64_t step,
                            double learning_rate, double learning_rate_decay, double epsilon, double weight_decay,
                            bool maximize) {
  return run_step<hominy_adagrad>("adagrad_step", &hominy_kernels::adagrad_step, values, gradients, {{"sums", sums}},
                                  {learning_rate, learning_rate_decay, epsilon, weight_decay, step, maximize});
}

py::object run_adadelta_step(const py::list& values, const py::list& gradients, const py::list& square_avgs,
                             const py::list& acc_deltas, double learning_rate, double rho, double epsilon,
                             double weight_decay, bool maximize) {
  return run_step<hominy_adadelta>("adadelta_step", &hominy_kernels::adadelta_step, values, gradients,
                                   {{"square_avgs", square_avgs}, {"acc_deltas", acc_deltas}},
                                   {learning_rate, rho, epsilon, weight_decay, maximize});
}

}  // namespace

void bind_optimizers(py::module_& m) {
  m.def("sgd_step", run_sgd_step, py::arg("values"), py::arg("gradients"), py::arg("buffers"), py::arg("learning_rate"),
        py::arg("momentum"), py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"), py::arg("maximize"),
        py::arg("first_step"));
  m.def("adam_step", run_adam_step, py::arg("values"), py::arg("gradients"), py::arg("exp_avgs"),
        py::arg("exp_avg_sqs"), py::arg("max_exp_avg_sqs"), py::arg("step"), py::arg("learning_rate"), py::arg("beta1"),
        py::arg("beta2"), py::arg("epsilon"), py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"));
  m.def("nadam_step", run_nadam_step, py::arg("values"), py::arg("gradients"), py::arg("exp_avgs"),
        py::arg("exp_avg_sqs"), py::arg("step"), py::arg("learning_rate"), py::arg("beta1"), py::arg("beta2"),
        py::arg("epsilon"), py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"), py::arg("mu"),
        py::arg("mu_next"), py::arg("mu_product"));
  m.def("radam_step", run_radam_step, py::arg("values"), py::arg("gradients"), py::arg("exp_avgs"),
        py::arg("exp_avg_sqs"), py::arg("step"), py::arg("learning_rate"), py::arg("beta1"), py::arg("beta2"),
        py::arg("epsilon"), py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"));
  m.def("adamax_step", run_adamax_step, py::arg("values"), py::arg("gradients"), py::arg("exp_avgs"),
        py::arg("exp_infs"), py::arg("step"), py::arg("learning_rate"), py::arg("beta1"), py::arg("beta2"),
        py::arg("epsilon"), py::arg("weight_decay"), py::arg("maximize"));
  m.def("rmsprop_step", run_rmsprop_step, py::arg("values"), py::arg("gradients"), py::arg("square_avgs"),
        py::arg("buffers"), py::arg("grad_avgs"), py::arg("learning_rate"), py::arg("alpha"), py::arg("epsilon"),
        py::arg("weight_decay"), py::arg("momentum"), py::arg("maximize"));
  m.def("adagrad_step", run_adagrad_step, py::arg("values"), py::arg("gradients"), py::arg("sums"), py::arg("step"),
        py::arg("learning_rate"), py::arg("learning_rate_decay"), py::arg("epsilon"), py::arg("weight_decay"),
        py::arg("maximize"));
  m.def("adadelta_step", run_adadelta_step, py::arg("values"), py::arg("gradients"), py::arg("square_avgs"),
        py::arg("acc_deltas"), py::arg("learning_rate"), py::arg("rho"), py::arg("epsilon"), py::arg("weight_decay"),
        py::arg("maximize"));
}

}  // namespace hominy
