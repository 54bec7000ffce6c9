// The module: its families of functions, the ISA level, threads and memory.
#include "bindings.hpp"

namespace hominy {

const hominy_kernels* kernels = nullptr;

namespace {

// The levels of this build, widest first, and whether this machine runs each.
const char* const level_names[] = {"avx512", "avx2", "neon", "baseline"};

void select_isa(const std::string& name) {
  const hominy_kernels* table = hominy_get_kernels_for(name.c_str());
  if (!table) {
    std::string available;
    for (const char* level : level_names)
      if (hominy_get_kernels_for(level)) available += std::string(available.empty() ? "" : ", ") + level;
    raise_value("hominy", "HOMINY_ISA", "one of " + available + " on this machine", "'" + name + "'");
  }
  kernels = table;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "hominy's compiled kernels, as the backend functions of backends/reference.py.";
  kernels = hominy_get_kernels();
  if (const char* forced = std::getenv("HOMINY_ISA"); forced && *forced) select_isa(forced);

  bind_elementwise(m);
  bind_reductions(m);
  bind_products(m);
  bind_convolutions(m);
  bind_layers(m);
  bind_recurrent(m);
  bind_optimizers(m);
  bind_pooling(m);

  m.def("isa", [] { return kernels->isa; }, "The ISA level in use.");
  m.def("select_isa", select_isa, py::arg("name"),
        "Use another level from now on (tests of every level in one process).");
  m.def(
      "isa_levels",
      [] {
        py::dict levels;
        for (const char* name : level_names) levels[name] = hominy_get_kernels_for(name) != nullptr;
        return levels;
      },
      "Level names, widest first, and whether this machine runs each.");
  m.def("num_threads", &num_threads);
  m.def("num_threads_reason", &num_threads_reason);
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("pool_empty", &pool_empty, py::call_guard<py::gil_scoped_release>());
  m.def("pool_statistics", [] {
    pool_statistics s = pool_get_statistics();
    py::dict facts;
    facts["in_use_bytes"] = s.in_use_bytes;
    facts["free_bytes"] = s.free_bytes;
    facts["bound_bytes"] = s.bound_bytes;
    facts["peak_bytes"] = s.peak_bytes;
    facts["hits"] = s.hits;
    facts["misses"] = s.misses;
    return facts;
  });
  m.attr("kernel_table") = py::capsule(kernels, "hominy_kernels");
  m.attr("abi_version") = HOMINY_ABI_VERSION;
}

}  // namespace hominy
