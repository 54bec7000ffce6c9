// Recurrent layers, forward and backward, against their formulas in long double: cells, options, lengths, layouts.
#include <math.h>

#include <memory>

#include "test_array.hpp"

namespace test {
namespace {

using numbers = std::vector<real>;

struct recurrent_case {
  int cell = HOMINY_CELL_LSTM;
  int64_t steps = 4, batch = 3, input = 5, units = 7, projection = 0;
  int directions = 1;
  bool biases = true, states = true, reverse = false, packed = false, has_lengths = false;
  bool peephole = false, coupled = false, reset_before = false, relu = false, prepared = false;
  double clip = 0;
  int64_t keep_every = 1;
  int activation = -1;  // of the gates, if not the usual
  layout kind = layout::contiguous;

  int64_t gates() const { return cell == HOMINY_CELL_LSTM ? 4 : cell == HOMINY_CELL_GRU ? 3 : 1; }
  int64_t state() const { return projection ? projection : units; }
  std::string text() const {
    char line[256];
    snprintf(line, sizeof line,
             "cell %d T %d B %d I %d H %d P %d D %d%s%s%s%s%s%s%s%s%s clip %g keep %d activation %d %s", cell,
             int(steps), int(batch), int(input), int(units), int(projection), directions, biases ? " bias" : "",
             states ? " states" : "", reverse ? " reverse" : "", packed ? " packed" : "", has_lengths ? " lengths" : "",
             peephole ? " peephole" : "", coupled ? " coupled" : "", reset_before ? " reset_before" : "",
             relu ? " relu" : "", clip, int(keep_every), activation, name_of(kind));
    return line;
  }
};

struct function {
  int code;
  double clip;
  real value(real x) const {
    if (clip > 0) x = fminl(fmaxl(x, -clip), clip);
    switch (code) {
      case HOMINY_GATE_SIGMOID: return 1 / (1 + expl(-x));
      case HOMINY_GATE_TANH: return tanhl(x);
      case HOMINY_GATE_RELU: return x > 0 ? x : 0;
      case HOMINY_GATE_LEAKY_RELU: return x > 0 ? x : 0.25L * x;
      case HOMINY_GATE_THRESHOLDED_RELU: return x > 0.25L ? x : 0;
      case HOMINY_GATE_AFFINE: return 0.25L * x + 0.5L;
      case HOMINY_GATE_SCALED_TANH: return 0.25L * tanhl(0.5L * x);
      case HOMINY_GATE_HARD_SIGMOID: return fminl(fmaxl(0.25L * x + 0.5L, 0), 1);
      case HOMINY_GATE_ELU: return x > 0 ? x : 0.25L * expm1l(x);
      case HOMINY_GATE_SOFTSIGN: return x / (1 + fabsl(x));
      default: return log1pl(expl(x));
    }
  }
  real slope(real x) const {
    if (clip > 0 && fabsl(x) > clip) return 0;
    const real y = value(x);
    switch (code) {
      case HOMINY_GATE_SIGMOID: return y * (1 - y);
      case HOMINY_GATE_TANH: return 1 - y * y;
      case HOMINY_GATE_RELU: return x > 0;
      case HOMINY_GATE_LEAKY_RELU: return x > 0 ? 1 : 0.25L;
      case HOMINY_GATE_THRESHOLDED_RELU: return x > 0.25L;
      case HOMINY_GATE_AFFINE: return 0.25L;
      case HOMINY_GATE_SCALED_TANH: return 0.125L * (1 - tanhl(0.5L * x) * tanhl(0.5L * x));
      case HOMINY_GATE_HARD_SIGMOID: return y > 0 && y < 1 ? 0.25L : 0;
      case HOMINY_GATE_ELU: return x > 0 ? 1 : 0.25L * expl(x);
      case HOMINY_GATE_SOFTSIGN: return 1 / ((1 + fabsl(x)) * (1 + fabsl(x)));
      default: return 1 / (1 + expl(-x));
    }
  }
};

// The arrays of one direction, their gradients and what the reference says of both.
struct direction_arrays {
  array w_ih, w_hh, b_ih, b_hh, w_hr, peephole, h0, c0, h_n, c_n;
  array g_h, g_c, d_w_ih, d_w_hh, d_b_ih, d_b_hh, d_w_hr, d_peephole, d_h0, d_c0;
  direction_arrays(int32_t t, const recurrent_case& c)
      : w_ih(t, {c.gates() * c.units, c.input}, c.kind),
        w_hh(t, {c.gates() * c.units, c.state()}, c.kind),
        b_ih(t, {c.gates() * c.units}),
        b_hh(t, {c.gates() * c.units}),
        w_hr(t, {c.state(), c.units}),
        peephole(t, {3, c.units}),
        h0(t, {c.batch, c.state()}, c.kind),
        c0(t, {c.batch, c.units}),
        h_n(t, {c.batch, c.state()}),
        c_n(t, {c.batch, c.units}),
        g_h(t, {c.batch, c.state()}),
        g_c(t, {c.batch, c.units}),
        d_w_ih(t, {c.gates() * c.units, c.input}, c.kind),
        d_w_hh(t, {c.gates() * c.units, c.state()}),
        d_b_ih(t, {c.gates() * c.units}),
        d_b_hh(t, {c.gates() * c.units}),
        d_w_hr(t, {c.state(), c.units}),
        d_peephole(t, {3, c.units}),
        d_h0(t, {c.batch, c.state()}),
        d_c0(t, {c.batch, c.units}) {
    uint64_t seed = 7;
    for (array* a : {&w_ih, &w_hh, &b_ih, &b_hh, &w_hr, &peephole}) a->fill_uniform(++seed, -0.5, 0.5);
    for (array* a : {&h0, &c0, &g_h, &g_c}) a->fill_uniform(++seed, -1, 1);
  }
};

struct recurrent_run {
  const level& here;
  int32_t dtype;
  recurrent_case c;
  std::vector<int64_t> lengths;
  int64_t rows = 0;
  array x, y, g_y, d_x, length_list;
  std::vector<std::unique_ptr<direction_arrays>> of;
  std::vector<unsigned char> kept, scratch, packed[2];
  hominy_recurrent cell{};
  hominy_recurrent_direction directions[2]{};
  hominy_recurrent_gradients gradients[2]{};
  std::vector<array*> y_parts;
  std::vector<hominy_tensor> views;

  static std::vector<int64_t> some_lengths(const recurrent_case& c) {
    std::vector<int64_t> all;
    for (int64_t b = 0; b < c.batch; ++b)
      all.push_back(c.has_lengths || c.packed
                        ? maximum(int64_t(0), c.steps - b * c.steps / maximum(c.batch - 1, int64_t(1)))
                        : c.steps);
    return all;
  }
  static int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
  static std::vector<int64_t> shape_of(const recurrent_case& c, int64_t n) {
    int64_t rows = 0;
    for (int64_t length : some_lengths(c)) rows += length;
    return c.packed ? std::vector<int64_t>{rows, n} : std::vector<int64_t>{c.steps, c.batch, n};
  }

  recurrent_run(const level& here, int32_t dtype, const recurrent_case& c)
      : here(here),
        dtype(dtype),
        c(c),
        lengths(some_lengths(c)),
        x(dtype, shape_of(c, c.input), c.kind),
        y(dtype, shape_of(c, c.directions * c.state()), c.kind),
        g_y(dtype, shape_of(c, c.directions * c.state()), c.kind),
        d_x(dtype, shape_of(c, c.input), c.kind),
        length_list(HOMINY_INT64, {c.batch}) {
    for (int64_t length : lengths) rows += length;
    length_list.fill([&](int64_t b) { return real(lengths[size_t(b)]); });
    x.fill_uniform(1, -1, 1);
    g_y.fill_uniform(2, -1, 1);
    const bool lstm = c.cell == HOMINY_CELL_LSTM;
    cell.cell = c.cell;
    cell.directions = c.directions;
    cell.activation[1] = cell.activation[2] = HOMINY_GATE_TANH;
    if (c.cell == HOMINY_CELL_RNN) cell.activation[0] = c.relu ? HOMINY_GATE_RELU : HOMINY_GATE_TANH;
    if (c.activation >= 0) cell.activation[0] = c.activation;
    for (int i = 0; i < 3; ++i) cell.alpha[i] = 0.25, cell.beta[i] = 0.5;
    cell.clip = c.clip;
    cell.coupled = c.coupled;
    cell.reset_before = c.reset_before;
    cell.keep_every = c.keep_every;
    views.reserve(8);
    for (int i = 0; i < c.directions; ++i) {
      of.push_back(std::make_unique<direction_arrays>(dtype, c));
      direction_arrays& a = *of.back();
      hominy_recurrent_direction& d = directions[i];
      hominy_recurrent_gradients& g = gradients[i];
      d.reverse = c.directions == 2 ? i : c.reverse;
      d.w_ih = a.w_ih, d.w_hh = a.w_hh, g.w_ih = a.d_w_ih, g.w_hh = a.d_w_hh, d.h_n = a.h_n, g.h_n = a.g_h;
      if (c.biases) d.b_ih = a.b_ih, d.b_hh = a.b_hh, g.b_ih = a.d_b_ih, g.b_hh = a.d_b_hh;
      if (c.projection) d.w_hr = a.w_hr, g.w_hr = a.d_w_hr;
      if (c.peephole) d.peephole = a.peephole, g.peephole = a.d_peephole;
      if (c.states) d.h0 = a.h0;
      if (c.states && lstm) d.c0 = a.c0;
      g.h0 = a.d_h0;
      if (lstm) d.c_n = a.c_n, g.c_n = a.g_c, g.c0 = a.d_c0;
      for (array* whole : {&y, &g_y}) {
        hominy_tensor part = whole->tensor();
        const int last = part.ndim - 1;
        part.shape[last] = c.state();
        part.data = static_cast<char*>(part.data) + i * c.state() * part.strides[last];
        views.push_back(part);
        (whole == &y ? d.y : g.y) = &views.back();
      }
    }
  }
  const hominy_tensor* lengths_or_null() const {
    return c.has_lengths || c.packed ? static_cast<const hominy_tensor*>(length_list) : nullptr;
  }

  static void* aligned(std::vector<unsigned char>& bytes, int64_t size) {
    bytes.resize(size_t(size + 64));
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) / 64 * 64);
  }
  hominy_status forward(bool keep) {
    const hominy_kernels& k = *here.kernels;
    for (int i = 0; c.prepared && i < c.directions; ++i) {
      const int64_t size = k.recurrent_packed_size(&cell, &directions[i]);
      void* into = aligned(packed[i], size);
      check_status(k.recurrent_pack(&cell, &directions[i], into, size), HOMINY_OK, "pack");
      directions[i].packed = into;
    }
    const int64_t kept_size = k.recurrent_kept_size(&cell, directions, x, lengths_or_null());
    const int64_t size = k.recurrent_workspace_size(&cell, directions, x, lengths_or_null());
    void* const into = keep && kept_size > 0 ? aligned(kept, kept_size) : nullptr;
    return k.recurrent(&cell, directions, x, lengths_or_null(), into, kept_size, aligned(scratch, size), size);
  }
  hominy_status backward() {
    const hominy_kernels& k = *here.kernels;
    const int64_t kept_size = k.recurrent_kept_size(&cell, directions, x, lengths_or_null());
    const int64_t size = k.recurrent_backward_workspace_size(&cell, directions, x, lengths_or_null());
    const void* const from = kept_size > 0 ? aligned(kept, kept_size) : nullptr;
    return k.recurrent_backward(&cell, directions, gradients, x, lengths_or_null(), from, kept_size, d_x,
                                aligned(scratch, size), size);
  }
  std::vector<unsigned char> bits() {
    forward(true);
    backward();
    std::vector<unsigned char> all = y.bits();
    const auto add = [&](const array& a) {
      const auto more = a.bits();
      all.insert(all.end(), more.begin(), more.end());
    };
    add(d_x);
    for (const auto& a : of)
      for (const array* each : {&a->h_n, &a->d_h0, &a->d_w_ih, &a->d_w_hh}) add(*each);
    return all;
  }

  int64_t row_of(int64_t t, int64_t b) const {
    if (!c.packed) return t * c.batch + b;
    int64_t row = b;
    for (int64_t s = 0; s < t; ++s)
      for (int64_t length : lengths) row += length > s;
    return row;
  }
};

// A sum and the sum of its terms' magnitudes.
struct total {
  real value = 0, size = 0;
  void add(real a, real b, real size_of_a = 0, real size_of_b = 0) {
    value += a * b;
    size += fmaxl(fabsl(a), size_of_a) * fmaxl(fabsl(b), size_of_b);
  }
};
using totals = std::vector<total>;

// What one row does to one direction: forward with all that it passes through, then back.
struct reference {
  recurrent_run& r;
  const recurrent_case& c;
  totals d_x;
  function gate, candidate, out;
  real wide = 0;  // steps that an error passes

  explicit reference(recurrent_run& r) : r(r), c(r.c), d_x(size_t(r.x.size())) {
    gate = {r.cell.activation[0], c.clip};
    candidate = out = {HOMINY_GATE_TANH, c.clip};
  }

  bool check_direction(int i, const std::string& what) {
    direction_arrays& a = *r.of[size_t(i)];
    const int64_t G = c.gates(), H = c.units, P = c.state(), I = c.input, width = c.directions * P;
    const bool lstm = c.cell == HOMINY_CELL_LSTM, gru = c.cell == HOMINY_CELL_GRU;
    const auto zeros = [](int64_t n) { return totals(size_t(n), total{}); };
    totals w_ih = zeros(G * H * I), w_hh = zeros(G * H * P), b_ih = zeros(G * H), b_hh = zeros(G * H),
           w_hr = zeros(P * H), peephole = zeros(3 * H), h0 = zeros(c.batch * P), c0 = zeros(c.batch * H);
    numbers y(size_t(r.y.size()), 0), h_n, c_n;
    const auto bias = [&](const array& b, int64_t g) { return c.biases ? b[g] : real(0); };
    for (int64_t b = 0; b < c.batch; ++b) {
      const int64_t T = r.lengths[size_t(b)];
      std::vector<numbers> h(1, numbers(size_t(P))), cs(1, numbers(size_t(H))), pre, raw(1), hn(1);
      for (int64_t j = 0; j < P; ++j) h[0][size_t(j)] = c.states ? a.h0[b * P + j] : 0;
      for (int64_t j = 0; j < H; ++j) cs[0][size_t(j)] = c.states && lstm ? a.c0[b * H + j] : 0;
      pre.resize(1);
      const bool reverse = r.directions[i].reverse;
      const auto time = [&](int64_t s) { return reverse ? T - s : s - 1; };
      for (int64_t s = 1; s <= T; ++s) {
        const int64_t row = r.row_of(time(s), b);
        const numbers &hb = h[size_t(s - 1)], &cb = cs[size_t(s - 1)];
        numbers p(size_t(G * H), 0), of_h(size_t(G * H), 0), hs(size_t(P), 0), cc(size_t(H), 0), full(size_t(H), 0);
        const auto dot = [&](int64_t g, const numbers& state) {
          real sum = bias(a.b_hh, g);
          for (int64_t k = 0; k < P; ++k) sum += a.w_hh[g * P + k] * state[size_t(k)];
          return sum;
        };
        for (int64_t g = 0; g < G * H; ++g) {
          real sum = bias(a.b_ih, g);
          for (int64_t k = 0; k < I; ++k) sum += a.w_ih[g * I + k] * r.x[row * I + k];
          of_h[size_t(g)] = dot(g, hb);
          p[size_t(g)] = sum + (gru && g >= 2 * H ? 0 : of_h[size_t(g)]);
        }
        if (gru && c.reset_before) {
          numbers reset(size_t(H), 0);
          for (int64_t j = 0; j < H; ++j) reset[size_t(j)] = gate.value(p[size_t(j)]) * hb[size_t(j)];
          for (int64_t j = 0; j < H; ++j) of_h[size_t(2 * H + j)] = dot(2 * H + j, reset);
        }
        for (int64_t u = 0; u < H; ++u) {
          const size_t j = size_t(u), n = size_t(H);
          if (lstm) {
            if (c.peephole) p[j] += a.peephole[u] * cb[j], p[n + j] += a.peephole[H + u] * cb[j];
            const real in = gate.value(p[j]), forget = c.coupled ? 1 - in : gate.value(p[n + j]);
            cc[j] = forget * cb[j] + in * candidate.value(p[2 * n + j]);
            if (c.peephole) p[3 * n + j] += a.peephole[2 * H + u] * cc[j];
            full[j] = gate.value(p[3 * n + j]) * out.value(cc[j]);
          } else if (gru) {
            p[2 * n + j] += c.reset_before ? of_h[2 * n + j] : gate.value(p[j]) * of_h[2 * n + j];
            const real z = gate.value(p[n + j]);
            full[j] = (1 - z) * candidate.value(p[2 * n + j]) + z * hb[j];
          } else {
            full[j] = gate.value(p[j]);
          }
        }
        for (int64_t k = 0; k < P; ++k) {
          if (c.projection)
            for (int64_t u = 0; u < H; ++u) hs[size_t(k)] += a.w_hr[k * H + u] * full[size_t(u)];
          else
            hs[size_t(k)] = full[size_t(k)];
          y[size_t(row * width + i * P + k)] = hs[size_t(k)];
        }
        h.push_back(hs), cs.push_back(cc), pre.push_back(p), raw.push_back(full), hn.push_back(of_h);
      }
      h_n.insert(h_n.end(), h.back().begin(), h.back().end());
      c_n.insert(c_n.end(), cs.back().begin(), cs.back().end());

      totals dh(size_t(P), total{}), dc(size_t(H), total{});
      for (int64_t k = 0; k < P; ++k) dh[size_t(k)].add(a.g_h[b * P + k], 1);
      for (int64_t u = 0; u < H && lstm; ++u) dc[size_t(u)].add(a.g_c[b * H + u], 1);
      for (int64_t s = T; s >= 1; --s) {
        const int64_t row = r.row_of(time(s), b);
        const size_t n = size_t(H), at = size_t(s);
        const numbers &hb = h[at - 1], &cb = cs[at - 1], &cc = cs[at], &p = pre[at];
        for (int64_t k = 0; k < P; ++k) dh[size_t(k)].add(r.g_y[row * width + i * P + k], 1);
        totals d_full(n, total{}), d(size_t(G * H), total{}), d_of_h, next_h(size_t(P), total{}), next_c(n, total{});
        if (c.projection)
          for (int64_t k = 0; k < P; ++k)
            for (int64_t u = 0; u < H; ++u) {
              d_full[size_t(u)].add(dh[size_t(k)].value, a.w_hr[k * H + u], dh[size_t(k)].size);
              w_hr[size_t(k * H + u)].add(dh[size_t(k)].value, raw[at][size_t(u)], dh[size_t(k)].size);
            }
        else
          d_full = dh;
        for (int64_t u = 0; u < H; ++u) {
          const size_t j = size_t(u);
          const total from = d_full[j];
          const auto times = [](const total& t, real by) {
            return total{t.value * by, t.size * fmaxl(fabsl(by), 0.25L)};
          };
          const auto plus = [](const total& s, const total& t) { return total{s.value + t.value, s.size + t.size}; };
          if (lstm) {
            const real in = gate.value(p[j]), forget = c.coupled ? 1 - in : gate.value(p[n + j]),
                       g = candidate.value(p[2 * n + j]), o = gate.value(p[3 * n + j]);
            d[3 * n + j] = times(from, out.value(cc[j]) * gate.slope(p[3 * n + j]));
            total all = plus(dc[j], times(from, o * out.slope(cc[j])));
            if (c.peephole) all = plus(all, times(d[3 * n + j], a.peephole[2 * H + u]));
            d[j] = times(all, (c.coupled ? g - cb[j] : g) * gate.slope(p[j]));
            d[n + j] = c.coupled ? total{} : times(all, cb[j] * gate.slope(p[n + j]));
            d[2 * n + j] = times(all, in * candidate.slope(p[2 * n + j]));
            next_c[j] = times(all, forget);
            if (c.peephole) {
              next_c[j] = plus(next_c[j], plus(times(d[j], a.peephole[u]), times(d[n + j], a.peephole[H + u])));
              peephole[j].add(d[j].value, cb[j], d[j].size);
              peephole[n + j].add(d[n + j].value, cb[j], d[n + j].size);
              peephole[2 * n + j].add(d[3 * n + j].value, cc[j], d[3 * n + j].size);
            }
          } else if (gru) {
            const real z = gate.value(p[n + j]), value = candidate.value(p[2 * n + j]);
            d[n + j] = times(from, (hb[j] - value) * gate.slope(p[n + j]));
            d[2 * n + j] = times(from, (1 - z) * candidate.slope(p[2 * n + j]));
            next_h[j] = times(from, z);
          } else {
            d[j] = times(from, gate.slope(p[j]));
          }
        }
        d_of_h = d;
        if (gru) {
          totals reset(n);
          for (int64_t u = 0; u < H; ++u) {
            const size_t j = size_t(u);
            if (c.reset_before) {
              for (int64_t k = 0; k < H; ++k)
                reset[j].add(d[size_t(2 * H + k)].value, a.w_hh[(2 * H + k) * P + u], d[size_t(2 * H + k)].size);
              d[j].add(reset[j].value, hb[j] * gate.slope(p[j]), reset[j].size);
              next_h[j].add(reset[j].value, gate.value(p[j]), reset[j].size);
            } else {
              d[j].add(d[2 * n + j].value, hn[at][2 * n + j] * gate.slope(p[j]), d[2 * n + j].size);
              const real by = gate.value(p[j]);
              d_of_h[2 * n + j] = {d[2 * n + j].value * by, d[2 * n + j].size};
            }
            d_of_h[j] = d[j];
          }
        }
        for (int64_t g = 0; g < G * H; ++g) {
          const total &mine = d[size_t(g)], &of_h = d_of_h[size_t(g)];
          const bool before = gru && c.reset_before && g >= 2 * H;
          b_ih[size_t(g)].add(mine.value, 1, mine.size);
          b_hh[size_t(g)].add(of_h.value, 1, of_h.size);
          for (int64_t k = 0; k < I; ++k) {
            w_ih[size_t(g * I + k)].add(mine.value, r.x[row * I + k], mine.size);
            d_x[size_t(row * I + k)].add(mine.value, a.w_ih[g * I + k], mine.size);
          }
          for (int64_t k = 0; k < P; ++k) {
            const real state = before ? gate.value(p[size_t(k)]) * hb[size_t(k)] : hb[size_t(k)];
            w_hh[size_t(g * P + k)].add(of_h.value, state, of_h.size, 0.1L);
            if (!before) next_h[size_t(k)].add(of_h.value, a.w_hh[g * P + k], of_h.size);
          }
        }
        dh = next_h;
        dc = next_c;
      }
      for (int64_t k = 0; k < P; ++k) h0[size_t(b * P + k)] = dh[size_t(k)];
      for (int64_t u = 0; u < H; ++u) c0[size_t(b * H + u)] = dc[size_t(u)];
    }

    // The state's error grows by (1 + |R|) a step at most; gradients carry it along.
    const real u = unit_roundoff(r.dtype), chain = real(G * H + I + P + 40) * real(c.steps + 2);
    const real of_state = 8 * chain * u, of_gradient = 16 * chain * u;
    const auto check_states = [&](const array& got, const numbers& expected, const char* name) {
      return check_elements(got, what + ": " + name, [&](int64_t k) {
        return expectation{expected[size_t(k)], of_state * fmaxl(1, fabsl(expected[size_t(k)]))};
      });
    };
    bool good = check_states(a.h_n, h_n, "h_n") && (!lstm || check_states(a.c_n, c_n, "c_n"));
    for (int64_t k = 0; k < r.y.size() && good; ++k)
      if (k % width / P == i)
        good = check(is_close(r.y, k, {y[size_t(k)], of_state * fmaxl(1, fabsl(y[size_t(k)]))}),
                     "%s: y[%lld] is %.20Lg, expected %.20Lg", what.c_str(), (long long)k, r.y[k], y[size_t(k)]);
    const auto check_totals = [&](const array& got, const totals& expected, const char* name) {
      return check_elements(got, what + ": " + name, [&](int64_t k) {
        return expectation{expected[size_t(k)].value, of_gradient * (expected[size_t(k)].size + 0.01L)};
      });
    };
    good = good && check_totals(a.d_w_ih, w_ih, "gradient of w_ih") &&
           check_totals(a.d_w_hh, w_hh, "gradient of w_hh") && check_totals(a.d_h0, h0, "gradient of h0") &&
           (!lstm || check_totals(a.d_c0, c0, "gradient of c0"));
    if (c.biases)
      good =
          good && check_totals(a.d_b_ih, b_ih, "gradient of b_ih") && check_totals(a.d_b_hh, b_hh, "gradient of b_hh");
    if (c.projection) good = good && check_totals(a.d_w_hr, w_hr, "gradient of w_hr");
    if (c.peephole) good = good && check_totals(a.d_peephole, peephole, "gradient of peepholes");
    return good;
  }
  void check_all(const std::string& what) {
    bool good = true;
    for (int i = 0; i < c.directions && good; ++i) good = check_direction(i, what);
    const real u = unit_roundoff(r.dtype),
               chain = real(c.gates() * c.units + c.input + c.state() + 40) * real(c.steps + 2);
    if (good)
      check_elements(r.d_x, what + ": gradient of x", [&](int64_t k) {
        return expectation{d_x[size_t(k)].value, 16 * chain * u * (d_x[size_t(k)].size + 0.01L)};
      });
  }
};

void check_case(const level& here, int32_t dtype, const recurrent_case& c) {
  recurrent_run r(here, dtype, c);
  if (!check_status(r.forward(true), HOMINY_OK, c.text() + ": forward")) return;
  const auto kept = r.kept;
  if (!check_status(r.backward(), HOMINY_OK, c.text() + ": backward")) return;
  check(kept == r.kept, "%s: backward wrote to what was kept", c.text().c_str());
  reference(r).check_all(c.text());
}

void recurrent_values(const level& here, int32_t dtype) {
  const int64_t lanes = here.lanes(dtype);
  const bool quick = here.settings.quick;
  random_numbers random(3);
  const int count = quick ? 60 : 400;
  for (int n = 0; n < count; ++n) {
    recurrent_case c;
    const auto one_of = [&](std::vector<int64_t> all) { return all[size_t(random.below(int64_t(all.size())))]; };
    c.cell = int(random.below(3));
    c.steps = one_of({1, 2, 3, 6});
    c.batch = one_of({1, 2, 3, 9, 15});
    if (c.batch == 1 && random.below(2) == 0) c.steps = one_of({8, 9, 19, 25});  // input products beside the steps
    c.input = one_of({0, 1, 3, lanes / 2, lanes + 1, 3 * lanes + lanes / 2 - 1});
    c.units = one_of({1, 3, lanes - 1, lanes, lanes + 6, 2 * lanes + 1, 3 * lanes});
    c.directions = random.below(3) == 0 ? 2 : 1;
    c.biases = random.below(4) != 0;
    c.states = random.below(3) != 0;
    c.reverse = random.below(3) == 0;
    c.packed = random.below(4) == 0;
    c.has_lengths = random.below(3) == 0;
    c.prepared = random.below(4) == 0;
    c.relu = random.below(2) == 0;
    c.kind = std::vector<layout>{layout::contiguous, layout::misaligned, layout::transposed, layout::strided,
                                 layout::negative}[size_t(random.below(5))];
    if (random.below(2) == 0) c.kind = layout::contiguous;
    if (c.cell == HOMINY_CELL_LSTM && c.units > 2 && random.below(3) == 0) c.projection = c.units / 2 + 1;
    if (random.below(3) == 0) c.keep_every = 1 + random.below(4);
    if (random.below(3) == 0) {
      c.peephole = c.coupled = c.cell == HOMINY_CELL_LSTM;
      if (random.below(2) == 0) c.coupled = false;
      c.reset_before = c.cell == HOMINY_CELL_GRU;
      c.clip = random.below(2) == 0 ? 0.4 : 0;
    }
    if (random.below(4) == 0) c.activation = int(random.below(11));
    if (c.activation == HOMINY_GATE_THRESHOLDED_RELU) c.activation = -1;  // jumps: no error bound
    const bool bounded = c.activation <= HOMINY_GATE_TANH || c.activation == HOMINY_GATE_SCALED_TANH ||
                         c.activation == HOMINY_GATE_HARD_SIGMOID || c.activation == HOMINY_GATE_SOFTSIGN;
    if (!bounded) c.steps = c.steps < 2 ? c.steps : 2;  // without bounds states grow, and errors with them
    check_case(here, dtype, c);
  }
}

void recurrent_threads(const level& here, int32_t dtype) {
  for (int cell : {HOMINY_CELL_RNN, HOMINY_CELL_LSTM, HOMINY_CELL_GRU})
    for (int kind = 0; kind < 5; ++kind) {
      if (here.settings.quick && (kind + cell) % 2) continue;
      recurrent_case c;
      c.cell = cell;
      c.steps = 7, c.batch = kind == 1 ? 37 : 5, c.input = 33, c.units = 65;
      if (kind == 2) c.directions = 2, c.has_lengths = true;
      if (kind == 4) c.batch = 1, c.steps = 21, c.units = 130, c.reverse = true;
      if (kind == 3) c.batch = 1, c.units = 130, c.reset_before = cell == HOMINY_CELL_GRU, c.keep_every = 3;
      recurrent_run r(here, dtype, c);
      same_bits_for_any_number_of_threads(c.text().c_str(), [&] { return r.bits(); });
    }
}

void recurrent_refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  recurrent_case c;
  c.has_lengths = true;
  recurrent_run r(here, dtype, c);
  const auto refused = [&](const std::string& what, std::vector<hominy_status> allowed) {
    check_refused(r.forward(true), allowed, r.y, what);
    check_refused(r.backward(), allowed, r.d_x, what);
  };
  for (const auto& bad : bad_tensors(r.of[0]->w_hh)) {
    r.directions[0].w_hh = &bad.tensor;
    refused(std::string("w_hh has ") + bad.what, {bad.expected, HOMINY_BAD_SHAPE});
  }
  r.directions[0].w_hh = r.of[0]->w_hh;
  for (const auto& bad : bad_tensors(r.of[0]->h0)) {
    r.directions[0].h0 = &bad.tensor;
    refused(std::string("h0 has ") + bad.what, {bad.expected, HOMINY_BAD_SHAPE});
  }
  r.directions[0].h0 = r.of[0]->h0;
  for (auto [place, length] : {std::pair<int64_t, int64_t>{0, c.steps + 1}, {1, -1}, {2, 4}, {0, 1}}) {
    const real before = r.length_list[place];
    r.length_list.set(place, real(length));
    refused("length " + std::to_string(length) + " at " + std::to_string(place), {HOMINY_BAD_VALUE});
    r.length_list.set(place, before);
  }
  for (int64_t bad : {int64_t(0), int64_t(-1)}) {
    r.cell.keep_every = bad;
    refused("keep_every " + std::to_string(bad), {HOMINY_BAD_VALUE});
  }
  r.cell.keep_every = 1;
  r.cell.activation[0] = 11;
  refused("activation 11", {HOMINY_BAD_VALUE});
  r.cell.activation[0] = 0;
  const int64_t size = k.recurrent_workspace_size(&r.cell, r.directions, r.x, r.length_list);
  const int64_t back = k.recurrent_backward_workspace_size(&r.cell, r.directions, r.x, r.length_list);
  std::vector<unsigned char> scratch;
  void* const memory = recurrent_run::aligned(scratch, back > size ? back : size);
  for (int64_t bytes : {int64_t(0), size - 1, int64_t(-1)})
    check_refused(k.recurrent(&r.cell, r.directions, r.x, r.length_list, nullptr, 0, memory, bytes),
                  {HOMINY_NO_WORKSPACE}, r.y, "workspace of " + std::to_string(bytes) + " bytes");
  check_status(r.forward(true), HOMINY_OK, "all in order");
  for (int64_t bytes : {int64_t(0), back - 1})
    check_refused(k.recurrent_backward(&r.cell, r.directions, r.gradients, r.x, r.length_list,
                                       recurrent_run::aligned(r.kept, int64_t(r.kept.size()) - 64),
                                       int64_t(r.kept.size()) - 64, r.d_x, memory, bytes),
                  {HOMINY_NO_WORKSPACE}, r.d_x, "backward workspace of " + std::to_string(bytes) + " bytes");
}

void recurrent_extremes(const level& here, int32_t dtype) {
  for (int64_t steps : {int64_t(0), int64_t(1)})  // no step, no row, one of all
    for (int64_t batch : {int64_t(0), int64_t(1)})
      for (int cell : {HOMINY_CELL_RNN, HOMINY_CELL_LSTM, HOMINY_CELL_GRU}) {
        recurrent_case c;
        c.cell = cell, c.steps = steps, c.batch = batch;
        check_case(here, dtype, c);
        c.directions = 2, c.has_lengths = true;
        check_case(here, dtype, c);
      }
  recurrent_case c;  // long, and still finite and equal to itself in pieces
  c.steps = here.settings.quick ? 500 : 5000, c.batch = 1, c.units = 20;
  recurrent_run r(here, dtype, c);
  const auto bits = r.bits();
  bool finite = true;
  for (const array* a : {&r.y, &r.d_x, &r.of[0]->d_w_ih, &r.of[0]->d_w_hh})
    for (int64_t i = 0; i < a->size(); ++i) finite = finite && isfinite((*a)[i]);
  check(finite, "%lld steps: not finite", (long long)c.steps);
}

}  // namespace

void recurrent_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("recurrent", recurrent_values);
    group("recurrent extremes", recurrent_extremes);
    group("recurrent threads", recurrent_threads);
    group("recurrent refusals", recurrent_refusals);
  }
}

}  // namespace test
