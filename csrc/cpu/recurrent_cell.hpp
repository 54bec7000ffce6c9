// What the cells do to one panel of rows and one block of units, once the products have left their sums beside them: a
// few vectors at a time, from and to the first-level cache. Forward and backward stand next to each other.
//
// `standard` cells (sigmoid and tanh, nothing special) are straight code in float32. All others, and float64, go
// through one function that asks for each vector what to do: gate_function.
#pragma once
#include "hominy.h"
#include "lane_access.hpp"
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {

template <class T>
constexpr bool fast_type = sizeof(T) == 4;

// ---- Activations ----------------------------------------------------------------------------------------------------

template <class T>
struct gate_function {
  int32_t code;  // a hominy_gate_activation
  T alpha, beta;
  T clip;          // of the argument; infinite: none
  T lowest, most;  // results of clipped arguments, where the slope is 0
};

template <class T>
__attribute__((noinline)) vec<T> activate_gate(const gate_function<T>& f, vec<T> x) {
  x = at_most<T>(at_least<T>(x, broadcast<T>(-f.clip)), broadcast<T>(f.clip));
  const vec<T> zero{};
  switch (f.code) {
    case HOMINY_GATE_SIGMOID: return sigmoid<T>(x);
    case HOMINY_GATE_TANH: return tanh<T>(x);
    case HOMINY_GATE_RELU: return at_least<T>(x, zero);
    case HOMINY_GATE_LEAKY_RELU: return select<T>(x < zero, f.alpha * x, x);
    case HOMINY_GATE_THRESHOLDED_RELU: return select<T>(x <= f.alpha, zero, x);
    case HOMINY_GATE_AFFINE: return f.alpha * x + f.beta;
    case HOMINY_GATE_SCALED_TANH: return f.alpha * tanh<T>(f.beta * x);
    case HOMINY_GATE_HARD_SIGMOID: return at_most<T>(at_least<T>(f.alpha * x + f.beta, zero), broadcast<T>(1));
    case HOMINY_GATE_ELU: return select<T>(x < zero, f.alpha * expm1<T>(x), x);
    case HOMINY_GATE_SOFTSIGN: return x / (1 + absolute<T>(x));
    default: return at_least<T>(x, zero) + log1p<T>(exp<T>(-absolute<T>(x)));  // softplus
  }
}

// The slope where the result is y.
template <class T>
__attribute__((noinline)) vec<T> gate_slope(const gate_function<T>& f, vec<T> y) {
  const vec<T> zero{}, one = broadcast<T>(1);
  vec<T> slope = one;
  switch (f.code) {
    case HOMINY_GATE_SIGMOID: slope = y * (1 - y); break;
    case HOMINY_GATE_TANH: slope = 1 - y * y; break;
    case HOMINY_GATE_RELU: slope = select<T>(y > zero, one, zero); break;
    case HOMINY_GATE_LEAKY_RELU: slope = select<T>(y > zero, one, broadcast<T>(f.alpha)); break;
    case HOMINY_GATE_THRESHOLDED_RELU: slope = select<T>(y == zero, zero, one); break;
    case HOMINY_GATE_AFFINE: slope = broadcast<T>(f.alpha); break;
    case HOMINY_GATE_SCALED_TANH: slope = f.alpha == 0 ? zero : f.beta * (f.alpha - y * y / f.alpha); break;
    case HOMINY_GATE_HARD_SIGMOID:
      slope = select<T>(y > zero, broadcast<T>(f.alpha), zero);
      slope = select<T>(y < one, slope, zero);
      break;
    case HOMINY_GATE_ELU: slope = select<T>(y > zero, one, y + f.alpha); break;
    case HOMINY_GATE_SOFTSIGN: slope = (1 - absolute<T>(y)) * (1 - absolute<T>(y)); break;
    default: slope = -expm1<T>(-y); break;  // softplus
  }
  slope = select<T>(y <= f.lowest, zero, slope);
  return select<T>(y >= f.most, zero, slope);
}

template <class T>
struct cell_functions {
  gate_function<T> gate, candidate, out;  // ONNX's f, g, h
  bool coupled;
};

template <class T>
gate_function<T> make_gate_function(int32_t code, double alpha, double beta, double clip) {
  const T infinity = T(__builtin_inf());
  gate_function<T> f{code, T(alpha), T(beta), clip > 0 ? T(clip) : infinity, -infinity, infinity};
  if (clip > 0) {
    const T a = activate_gate<T>(f, broadcast<T>(T(-clip)))[0], b = activate_gate<T>(f, broadcast<T>(T(clip)))[0];
    f.lowest = minimum_of(a, b);
    f.most = maximum_of(a, b);
  }
  return f;
}

// sigmoid and tanh as standard cells and rnn take them, a sixth of a cell's time faster than those of vector_math.hpp: over all
// floats up to 2.4 ulp off (1.5 u), where those are up to 2.0 and 1.2, and no sigmoid is below 1e-38.
inline vec<float> quick_sigmoid(vec<float> x) {
  const vec<float> bounded = at_least<float>(at_most<float>(x, broadcast(87.0f)), broadcast(-87.0f));
  return 1 / exp_plus_1<float>(reduce_exp<float>(-bounded));
}
// s / (s + 1), s = expm1(2 |x|) / 2
inline vec<float> quick_tanh(vec<float> x) {
  const vec<float> size = at_most<float>(absolute<float>(x), broadcast(coefficients<float>::tanh_above));
  const vec<float> s = half_expm1<float>(reduce_exp<float>(2 * size));
  return with_sign<float>(s / (s + 1), sign_bits<float>(x));
}

// The standard cells' and any other function by one name.
template <class T, bool standard>
inline vec<T> gate(const cell_functions<T>& f, vec<T> x) {
  if constexpr (standard) return quick_sigmoid(x);
  return activate_gate<T>(f.gate, x);
}
template <class T, bool standard>
inline vec<T> candidate(const cell_functions<T>& f, vec<T> x) {
  if constexpr (standard) return quick_tanh(x);
  return activate_gate<T>(f.candidate, x);
}
template <class T, bool standard>
inline vec<T> out_function(const cell_functions<T>& f, vec<T> x) {
  if constexpr (standard) return quick_tanh(x);
  return activate_gate<T>(f.out, x);
}
template <class T, bool standard>
inline vec<T> slope_of_gate(const cell_functions<T>& f, vec<T> y) {
  if constexpr (standard) return y * (1 - y);
  return gate_slope<T>(f.gate, y);
}
template <class T, bool standard>
inline vec<T> slope_of_candidate(const cell_functions<T>& f, vec<T> y) {
  if constexpr (standard) return 1 - y * y;
  return gate_slope<T>(f.candidate, y);
}
// Of h at c, where it is y: clipping shows in c itself.
template <class T, bool standard>
inline vec<T> slope_of_out(const cell_functions<T>& f, vec<T> c, vec<T> y) {
  if constexpr (standard) return 1 - y * y;
  return select<T>(absolute<T>(c) > f.out.clip, vec<T>{}, gate_slope<T>(f.out, y));
}

// ---- Panels ---------------------------------------------------------------------------------------------------------

// Rows of units that are neighbours and padded to whole vectors; the pointer is at the panel's first row and unit.
template <class T>
struct padded_rows {
  T* data;
  int64_t row;  // elements from row to row
  T* at(int64_t r, int64_t j) const { return data + r * row + j; }
  explicit operator bool() const { return data != nullptr; }
};

// Rows of the caller's, or of products' operands: exactly so many units, any strides (in bytes). Nothing where data is
// null, and then element is 0.
template <class T>
struct exact_rows {
  char* data = nullptr;
  int64_t row = 0, element = 0;

  exact_rows() = default;
  exact_rows(char* data, int64_t row, int64_t element) : data(data), row(row), element(data ? element : 0) {}

  bool neighbours() const { return element == int64_t(sizeof(T)); }
  void put(int64_t r, int64_t j, vec<T> v, int64_t count) const {
    if (neighbours() && count >= lanes<T>)
      store(reinterpret_cast<T*>(data + r * row) + j, v);
    else if (data)
      put_part(r, j, v, count);
  }
  // 0 beyond the end, and where there is nothing.
  vec<T> get(int64_t r, int64_t j, int64_t count) const {
    if (neighbours() && count >= lanes<T>) return load(reinterpret_cast<const T*>(data + r * row) + j);
    return data ? get_part(r, j, count) : vec<T>{};
  }

 private:
  __attribute__((noinline)) void put_part(int64_t r, int64_t j, vec<T> v, int64_t count) const {
    char* const p = data + r * row + j * element;
    if (neighbours()) return store_partial(reinterpret_cast<T*>(p), v, minimum_of<int64_t>(count, lanes<T>));
    for (int64_t i = 0; i < lanes<T> && i < count; ++i) store_scalar<T>(p + i * element, v[i]);
  }
  __attribute__((noinline)) vec<T> get_part(int64_t r, int64_t j, int64_t count) const {
    const char* const p = data + r * row + j * element;
    if (neighbours())
      return load_partial(reinterpret_cast<const T*>(p), maximum_of<int64_t>(0, minimum_of<int64_t>(count, lanes<T>)));
    vec<T> v{};
    for (int64_t i = 0; i < lanes<T> && i < count; ++i) v[i] = load_scalar<T>(p + i * element);
    return v;
  }
};

// Asks for `units` of `rows` rows: for reading, or for writing.
template <int writes, class T>
inline void fetch_rows(const T* first, int64_t row, int64_t rows, int64_t units) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < units; j += 64 / int64_t(sizeof(T))) __builtin_prefetch(first + r * row + j, writes);
}

// Reads the same of memory that is surely there. Of what the forward left megabytes ago the processor ignores the
// requests above: with these whole backward passes take 1.5 to 3% less.
template <class T>
inline void touch_rows(const T* first, int64_t row, int64_t rows, int64_t units) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < units; j += 64 / int64_t(sizeof(T)))
      (void)*reinterpret_cast<const volatile T*>(first + r * row + j);
}

template <class T>
struct forward_panel {
  int64_t rows, units;  // units of the block that exist
  int64_t width;        // of the block, whole vectors
  int64_t gate;         // elements from one gate to the next, in sums and gates: vectors of one may reach into the next
  int64_t sums_row;
  T* sums;
  padded_rows<T> gates;  // what the input product left there (gru: n's share); gets results if `keeps`
  bool keeps;
  padded_rows<T> cells;  // kept c
  padded_rows<T> c;      // lstm's state
  padded_rows<T> h_before, h;
  padded_rows<T> middle;  // what a second product is made from: lstm's h before its projection, gru's r h'
  const T* peephole;      // i, f, o
  int64_t peephole_row;
  exact_rows<T> y;

  void keep(int g, int64_t r, int64_t j, vec<T> v) const {
    T* const to = gates.at(r, j) + g * gate;
    if (units - j >= lanes<T>)
      store(to, v);
    else
      store_partial(to, v, units - j);
  }

  // What the cell will touch comes nearer while a product is at work.
  void fetch() const {
    if (c) fetch_rows<1>(c.data, c.row, rows, width);
    if (cells) fetch_rows<1>(cells.data, cells.row, rows, width);
    fetch_rows<1>(h.data, h.row, rows, width);
    if (y.data) fetch_rows<1>(reinterpret_cast<const T*>(y.data), y.row / int64_t(sizeof(T)), rows, units);
  }
};

template <class T, class F>
inline void for_units(int64_t rows, int64_t units, F f) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < units; j += lanes<T>) f(r, j);
}

template <class T, class F>
inline void rnn_forward(const forward_panel<T>& p, F function) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const vec<T> h = function(load(p.sums + r * p.sums_row + j));
    store(p.h.at(r, j), h);
    p.y.put(r, j, h, p.units - j);
  });
}

// In two passes over the panel: a vector's way from its gates to c and on to h is long, and the processor, which looks
// some 300 instructions ahead, would see little but one vector's.
template <class T, bool standard>
void lstm_forward(const forward_panel<T>& p, const cell_functions<T>& f) {
  const bool peeps = !standard && p.peephole;
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    T* const sums = p.sums + r * p.sums_row + j;
    const vec<T> before = load(p.c.at(r, j));
    vec<T> i = load(sums), forget = load(sums + p.gate), g = load(sums + 2 * p.gate), o = load(sums + 3 * p.gate);
    if (peeps) {
      i += load(p.peephole + j) * before;
      forget += load(p.peephole + p.peephole_row + j) * before;
    }
    i = gate<T, standard>(f, i);
    forget = !standard && f.coupled ? 1 - i : gate<T, standard>(f, forget);
    g = candidate<T, standard>(f, g);
    const vec<T> c = forget * before + i * g;
    if (peeps) o += load(p.peephole + 2 * p.peephole_row + j) * c;
    o = gate<T, standard>(f, o);
    store(sums, o);
    store(p.c.at(r, j), c);
    if (p.keeps) {
      p.keep(0, r, j, i);
      p.keep(1, r, j, forget);
      p.keep(2, r, j, g);
      p.keep(3, r, j, o);
      store(p.cells.at(r, j), c);
    }
  });
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const vec<T> h = load(p.sums + r * p.sums_row + j) * out_function<T, standard>(f, load(p.c.at(r, j)));
    if (p.middle) return store(p.middle.at(r, j), h);
    store(p.h.at(r, j), h);
    p.y.put(r, j, h, p.units - j);
  });
}

template <class T, bool standard>
void gru_forward(const forward_panel<T>& p, const cell_functions<T>& f) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const T* sums = p.sums + r * p.sums_row + j;
    const T* at = p.gates.at(r, j);
    const vec<T> reset = gate<T, standard>(f, load(sums)), z = gate<T, standard>(f, load(sums + p.gate));
    const vec<T> recurrent = load(sums + 2 * p.gate);
    // Not beyond the unit's own: what follows may be a row that another task is writing.
    const vec<T> input = p.units - j >= lanes<T> ? load(at + 2 * p.gate) : load_partial(at + 2 * p.gate, p.units - j);
    const vec<T> n = candidate<T, standard>(f, input + reset * recurrent);
    const vec<T> h = n + z * (load(p.h_before.at(r, j)) - n);
    if (p.keeps) {
      p.keep(0, r, j, reset);
      p.keep(1, r, j, z);
      p.keep(2, r, j, n);
      p.keep(3, r, j, recurrent);
    }
    store(p.h.at(r, j), h);
    p.y.put(r, j, h, p.units - j);
  });
}

// The reset before the product: r and z, then n.
template <class T>
void gru_forward_reset(const forward_panel<T>& p, const cell_functions<T>& f) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const T* sums = p.sums + r * p.sums_row + j;
    const vec<T> reset = gate<T, false>(f, load(sums));
    p.keep(0, r, j, reset);
    p.keep(1, r, j, gate<T, false>(f, load(sums + p.gate)));
    store(p.middle.at(r, j), reset * load(p.h_before.at(r, j)));
  });
}
template <class T>
void gru_forward_candidate(const forward_panel<T>& p, const cell_functions<T>& f) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const vec<T> n = candidate<T, false>(f, load(p.sums + r * p.sums_row + j));
    const vec<T> h = n + load(p.gates.at(r, j) + p.gate) * (load(p.h_before.at(r, j)) - n);
    if (p.keeps) p.keep(2, r, j, n);
    store(p.h.at(r, j), h);
    p.y.put(r, j, h, p.units - j);
  });
}

// ---- Backward -------------------------------------------------------------------------------------------------------

template <class T>
struct backward_panel {
  int64_t rows, units;
  int64_t sums_row;
  const T* sums;  // gradient of h (lstm with projection: of h before it; gru's last stage: of r h')
  padded_rows<const T> gates, cells;
  int64_t gate;
  padded_rows<const T> cells_before,
      cells_start;  // c of the step before: of rows below `continuing`, and of the others
  int64_t continuing;
  padded_rows<const T> h_before;  // gru
  exact_rows<T> y;                // rnn: h itself
  padded_rows<T> c;               // gradient of c, carried on
  padded_rows<T> through;         // gru: what reaches h' other than by a product
  exact_rows<T> d;                // results: gradients of the gates' arguments, gate after gate
  int64_t d_gates, d_gate;        // bytes from one to the next
  padded_rows<T> middle;          // gru: r h'
  const T* peephole;
  int64_t peephole_row;

  void fetch(int64_t gate_count) const {
    if (gates) touch_rows(gates.data, gates.row, rows, gate_count * gate);
    if (c) touch_rows(c.data, c.row, rows, sums_row);
    if (cells) touch_rows(cells.data, cells.row, rows, sums_row);
    if (cells) touch_rows(cells_before.data, cells_before.row, minimum_of(rows, continuing), sums_row);
    if (h_before) touch_rows(h_before.data, h_before.row, rows, sums_row);
    if (through) touch_rows(through.data, through.row, rows, sums_row);
    const int64_t size = sizeof(T);
    for (int64_t g = 0; g < d_gates; ++g)
      touch_rows(reinterpret_cast<const T*>(d.data + g * d_gate), d.row / size, rows, units);
  }
  void put(int g, int64_t r, int64_t j, vec<T> v) const {
    exact_rows<T>{d.data + g * d_gate, d.row, d.element}.put(r, j, v, units - j);
  }
};

template <class T>
void rnn_backward(const backward_panel<T>& p, const cell_functions<T>& f) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    p.put(0, r, j, load(p.sums + r * p.sums_row + j) * gate_slope<T>(f.gate, p.y.get(r, j, p.units - j)));
  });
}

template <class T, bool standard>
void lstm_backward(const backward_panel<T>& p, const cell_functions<T>& f) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const T* kept = p.gates.at(r, j);
    const vec<T> i = load(kept), forget = load(kept + p.gate), g = load(kept + 2 * p.gate), o = load(kept + 3 * p.gate);
    const vec<T> c = load(p.cells.at(r, j));
    const vec<T> before = load(r < p.continuing ? p.cells_before.at(r, j) : p.cells_start.at(r, j));
    const vec<T> dh = load(p.sums + r * p.sums_row + j), squashed = out_function<T, standard>(f, c);
    const vec<T> d_o = dh * squashed * slope_of_gate<T, standard>(f, o);
    vec<T> dc = load(p.c.at(r, j)) + dh * o * slope_of_out<T, standard>(f, c, squashed);
    const bool peeps = !standard && p.peephole;
    if (peeps) dc += d_o * load(p.peephole + 2 * p.peephole_row + j);
    const bool coupled = !standard && f.coupled;
    const vec<T> di = dc * (coupled ? g - before : g) * slope_of_gate<T, standard>(f, i);
    const vec<T> df = coupled ? vec<T>{} : dc * before * slope_of_gate<T, standard>(f, forget);
    p.put(0, r, j, di);
    p.put(1, r, j, df);
    p.put(2, r, j, dc * i * slope_of_candidate<T, standard>(f, g));
    p.put(3, r, j, d_o);
    dc *= forget;
    if (peeps) dc += di * load(p.peephole + j) + df * load(p.peephole + p.peephole_row + j);
    store(p.c.at(r, j), dc);
  });
}

template <class T, bool standard>
void gru_backward(const backward_panel<T>& p, const cell_functions<T>& f) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const T* kept = p.gates.at(r, j);
    const vec<T> reset = load(kept), z = load(kept + p.gate), n = load(kept + 2 * p.gate),
                 recurrent = load(kept + 3 * p.gate);
    const vec<T> dh = load(p.sums + r * p.sums_row + j);
    const vec<T> dn = dh * (1 - z) * slope_of_candidate<T, standard>(f, n);
    p.put(0, r, j, dn * recurrent * slope_of_gate<T, standard>(f, reset));
    p.put(1, r, j, dh * (load(p.h_before.at(r, j)) - n) * slope_of_gate<T, standard>(f, z));
    p.put(2, r, j, dn);
    p.put(3, r, j, dn * reset);
    store(p.through.at(r, j), dh * z);
  });
}

// The reset before the product: n and z, then r.
template <class T>
void gru_backward_candidate(const backward_panel<T>& p, const cell_functions<T>& f) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const T* kept = p.gates.at(r, j);
    const vec<T> z = load(kept + p.gate), n = load(kept + 2 * p.gate), dh = load(p.sums + r * p.sums_row + j);
    p.put(1, r, j, dh * (load(p.h_before.at(r, j)) - n) * gate_slope<T>(f.gate, z));
    p.put(2, r, j, dh * (1 - z) * gate_slope<T>(f.candidate, n));
    store(p.through.at(r, j), dh * z);
  });
}
template <class T>
void gru_backward_reset(const backward_panel<T>& p, const cell_functions<T>& f) {
  for_units<T>(p.rows, p.units, [&](int64_t r, int64_t j) {
    const vec<T> reset = load(p.gates.at(r, j)), before = load(p.h_before.at(r, j));
    const vec<T> d = load(p.sums + r * p.sums_row + j);
    p.put(0, r, j, d * before * gate_slope<T>(f.gate, reset));
    store(p.middle.at(r, j), reset * before);
    store(p.through.at(r, j), load(p.through.at(r, j)) + d * reset);
  });
}

}  // namespace hominy::HOMINY_LEVEL
