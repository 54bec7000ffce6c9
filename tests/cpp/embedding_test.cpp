// Embedding, forward and backward, and dropout against a scalar Philox.
#include <math.h>

#include <limits>

#include "guarded_bytes.hpp"

namespace test {
namespace {

constexpr int64_t nothing_ignored = -1;

// ---- Embedding ----

void fill_indices(array& indices, int64_t rows, uint64_t seed) {
  random_numbers random(seed);
  indices.fill([&](int64_t) { return real(random.below(rows)); });
}

void check_embedding(const level& here, int32_t dtype, int64_t rows, int64_t columns, int64_t count, layout from,
                     layout to, layout of_indices) {
  const std::string what = text_of({rows, columns}) + " of " + std::to_string(count) + " " + name_of(of_indices) +
                           " indices, " + name_of(from) + " -> " + name_of(to);
  array table(dtype, {rows, columns}, from), out(dtype, {count, columns}, to);
  array indices(HOMINY_INT64, {count}, of_indices);
  table.fill_uniform(1, -2, 2);
  fill_indices(indices, rows, 2);
  if (check_status(here.kernels->embedding(table, indices, out), HOMINY_OK, "embedding " + what))
    check_elements(out, "embedding " + what, [&](int64_t i) {
      return expectation{table[int64_t(indices[i / columns]) * columns + i % columns], 0};
    });
  check(table.untouched() && indices.untouched(), "embedding %s: wrote to an input", what.c_str());

  const real u = unit_roundoff(dtype);
  for (int64_t ignored : {nothing_ignored, rows - 1}) {
    array gradient(dtype, {count, columns}, from), sums(dtype, {rows, columns}, to);
    gradient.fill_uniform(3, -2, 2);
    const std::string name = "embedding_backward " + what + " but " + std::to_string(ignored);
    if (!check_status(here.kernels->embedding_backward(gradient, indices, ignored, sums), HOMINY_OK, name)) continue;
    std::vector<expectation> expected(size_t(rows * columns), expectation{0, 0});
    std::vector<real> terms(size_t(rows), 0);
    for (int64_t n = 0; n < count; ++n) {
      const int64_t row = int64_t(indices[n]);
      if (row == ignored) continue;
      ++terms[size_t(row)];
      for (int64_t d = 0; d < columns; ++d) {
        expectation& e = expected[size_t(row * columns + d)];
        e.value += gradient[n * columns + d];
        e.bound += u * fabsl(gradient[n * columns + d]);
      }
    }
    check_elements(sums, name, [&](int64_t i) {
      const expectation& e = expected[size_t(i)];
      return expectation{e.value, terms[size_t(i / columns)] * e.bound};
    });
    check(gradient.untouched() && indices.untouched(), "%s: wrote to an input", name.c_str());
  }
}

void embedding_values(const level& here, int32_t dtype) {
  constexpr layout straight = layout::contiguous;
  for (int64_t columns : here.sizes(dtype)) check_embedding(here, dtype, 7, columns, 19, straight, straight, straight);
  for (int64_t count : here.sizes(dtype)) check_embedding(here, dtype, 5, 3, count, straight, straight, straight);
  for (layout from : input_layouts)
    for (layout to : output_layouts)
      for (layout of_indices : input_layouts)
        if (!here.settings.quick || (int(from) + int(to) + int(of_indices)) % 3 == 0)
          check_embedding(here, dtype, 6, 11, 9, from, to, of_indices);
  check_embedding(here, dtype, 1, 1, 1, straight, straight, straight);
  check_embedding(here, dtype, 0, 5, 0, straight, straight, straight);
  check_embedding(here, dtype, 3, 0, 4, straight, straight, straight);
  check_embedding(here, dtype, 2, 2501, 9, straight, straight, straight);
  check_embedding(here, dtype, 1, 3, here.settings.quick ? 401 : 3001, straight, straight, straight);
  check_embedding(here, dtype, here.settings.quick ? 401 : 5003, 2, 101, straight, straight, straight);
  if (!here.settings.quick) check_embedding(here, dtype, 1009, 33, 1501, straight, straight, straight);
}

void embedding_exactness(const level& here, int32_t dtype) {
  // A row is copied as bits, NaN's payload and the sign of 0 included, and what was not asked for leaves no trace.
  array table(dtype, {3, 37}), indices(HOMINY_INT64, {5}), out(dtype, {5, 37});
  random_numbers random(5);
  const auto item = size_t(size_of_dtype(dtype));
  for (int64_t i = 0; i < table.size(); ++i) {
    const uint64_t word = i % 3 == 0 ? ~uint64_t(0) >> (i % 16) : random.bits();
    memcpy(table.address(i), &word, item);
  }
  const int64_t wanted[] = {2, 0, 2, 2, 0};
  indices.fill([&](int64_t n) { return real(wanted[n]); });
  check_status(here.kernels->embedding(table, indices, out), HOMINY_OK, "embedding of any bits");
  bool same = out.guards_intact();
  for (int64_t i = 0; i < out.size(); ++i)
    same = same && memcmp(out.address(i), table.address(wanted[i / 37] * 37 + i % 37), item) == 0;
  check(same, "embedding copies bits");

  array gradient(dtype, {5, 37}), sums(dtype, {3, 37});
  gradient.fill([&](int64_t i) { return i / 37 == 1 ? NAN : i / 37 == 4 ? INFINITY : real(i % 7); });
  check_status(here.kernels->embedding_backward(gradient, indices, 0, sums), HOMINY_OK, "ignored NaN");
  check_elements(sums, "rows that are ignored or not named are 0", [&](int64_t i) {
    if (i / 37 != 2) return expectation{0, 0};
    return expectation{gradient[i % 37] + gradient[2 * 37 + i % 37] + gradient[3 * 37 + i % 37], 0};
  });
  check_status(here.kernels->embedding_backward(gradient, indices, 2, sums), HOMINY_OK, "NaN");
  check_elements(sums, "NaN stays in its row", [&](int64_t i) { return expectation{i / 37 == 0 ? NAN : 0.0L, 0}; });
}

void bad_indices(const level& here, int32_t dtype) {
  for (layout kind : {layout::contiguous, layout::strided})
    for (int64_t count : {int64_t(9), here.settings.quick ? int64_t(1009) : int64_t(10007)}) {
      array table(dtype, {5, 7}, kind), indices(HOMINY_INT64, {count}, kind), out(dtype, {count, 7}, kind);
      array gradient(dtype, {count, 7}, kind), sums(dtype, {5, 7}, kind);
      table.fill_uniform(1, -1, 1);
      gradient.fill_uniform(2, -1, 1);
      fill_indices(indices, 5, 3);
      for (int64_t bad : {int64_t(-1), int64_t(5), int64_t(1) << 40, int64_t(1) << 32, INT64_MIN, INT64_MAX})
        for (int64_t place : {int64_t(0), count / 2, count - 1}) {
          memcpy(indices.address(place), &bad, sizeof bad);
          const std::string what = "index " + std::to_string(bad) + " at " + std::to_string(place);
          check_status(here.kernels->embedding(table, indices, out), HOMINY_BAD_INDEX, "embedding: " + what);
          for (int64_t ignored : {nothing_ignored - 1, int64_t(0)})
            check_status(here.kernels->embedding_backward(gradient, indices, ignored, sums), HOMINY_BAD_INDEX,
                         "embedding_backward: " + what);
          indices.set(place, 0);
        }
      check(out.guards_intact() && sums.guards_intact(), "an index out of range: wrote outside");
    }
  array table(dtype, {0, 7}), indices(HOMINY_INT64, {1}), out(dtype, {1, 7}), narrow(dtype, {5, 0}),
      none(dtype, {1, 0});
  indices.fill([](int64_t) { return 0.0L; });
  check_status(here.kernels->embedding(table, indices, out), HOMINY_BAD_INDEX, "embedding: a table without rows");
  check_status(here.kernels->embedding_backward(out, indices, nothing_ignored, table), HOMINY_BAD_INDEX,
               "embedding_backward: a table without rows");
  indices.fill([](int64_t) { return 5.0L; });
  check_status(here.kernels->embedding(narrow, indices, none), HOMINY_BAD_INDEX, "embedding: a table without columns");
  check_status(here.kernels->embedding_backward(none, indices, nothing_ignored, narrow), HOMINY_BAD_INDEX,
               "embedding_backward: a table without columns");
}

void embedding_refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  array table(dtype, {5, 3}), indices(HOMINY_INT64, {4}), out(dtype, {4, 3}), gradient(dtype, {4, 3});
  array sums(dtype, {5, 3});
  table.fill_uniform(1, -1, 1);
  gradient.fill_uniform(2, -1, 1);
  fill_indices(indices, 5, 3);
  const auto forward = [&](const hominy_tensor* from, const hominy_tensor* rows, const hominy_tensor* to,
                           hominy_status expected, const std::string& what) {
    check_refused(k.embedding(from, rows, to), {expected}, out, "embedding: " + what);
  };
  const auto backward = [&](const hominy_tensor* from, const hominy_tensor* rows, const hominy_tensor* to,
                            hominy_status expected, const std::string& what) {
    check_refused(k.embedding_backward(from, rows, nothing_ignored, to), {expected}, sums,
                  "embedding_backward: " + what);
  };
  for (const auto& bad : bad_tensors(table)) {
    if (std::string(bad.what) == "one row more") continue;  // any number of rows will do
    forward(&bad.tensor, indices, out, bad.expected, std::string("table has ") + bad.what);
    backward(gradient, indices, &bad.tensor, bad.expected, std::string("out has ") + bad.what);
  }
  for (const auto& bad : bad_tensors(out)) {
    forward(table, indices, &bad.tensor, bad.expected, std::string("out has ") + bad.what);
    backward(&bad.tensor, indices, sums, bad.expected, std::string("gradient has ") + bad.what);
  }
  for (const auto& bad : bad_tensors(indices)) {
    forward(table, &bad.tensor, out, bad.expected, std::string("indices has ") + bad.what);
    backward(gradient, &bad.tensor, sums, bad.expected, std::string("indices has ") + bad.what);
  }
  array wide(dtype, {4, 4}), matrix(HOMINY_INT64, {4, 1}), list(dtype, {4}), cube(dtype, {4, 3, 1});
  forward(table, indices, wide, HOMINY_BAD_SHAPE, "out is wider");
  backward(wide, indices, sums, HOMINY_BAD_SHAPE, "gradient is wider");
  forward(table, matrix, out, HOMINY_BAD_SHAPE, "indices of two dimensions");
  backward(gradient, matrix, sums, HOMINY_BAD_SHAPE, "indices of two dimensions");
  forward(list, indices, out, HOMINY_BAD_SHAPE, "a table of one dimension");
  backward(gradient, indices, list, HOMINY_BAD_SHAPE, "out of one dimension");
  forward(table, indices, cube, HOMINY_BAD_SHAPE, "out of three dimensions");
  backward(cube, indices, sums, HOMINY_BAD_SHAPE, "gradient of three dimensions");
}

void embedding_threads_and_alignment(const level& here, int32_t dtype) {
  struct {
    int64_t rows, columns, count;
  } const all[] = {
      {509, 33, here.settings.quick ? 801 : 3001}, {3, 1003, 101}, {here.settings.quick ? 2003 : 10007, 5, 301}};
  for (const auto& [rows, columns, count] : all) {
    array table(dtype, {rows, columns}), indices(HOMINY_INT64, {count}), out(dtype, {count, columns});
    array gradient(dtype, {count, columns}), sums(dtype, {rows, columns});
    table.fill_uniform(1, -1, 1);
    gradient.fill_uniform(2, -1, 1);
    fill_indices(indices, rows, 3);
    same_bits_for_any_number_of_threads("embedding", [&] {
      here.kernels->embedding(table, indices, out);
      return out.bits();
    });
    same_bits_for_any_number_of_threads("embedding_backward", [&] {
      here.kernels->embedding_backward(gradient, indices, 1, sums);
      return sums.bits();
    });
  }
  array table(dtype, {7, 37}), indices(HOMINY_INT64, {29}), gradient(dtype, {29, 37});
  table.fill_uniform(1, -1, 1);
  gradient.fill_uniform(2, -1, 1);
  fill_indices(indices, 7, 3);
  same_bits_for_any_alignment("embedding", [&](int64_t shift) {
    const shifted from(dtype, {7, 37}, shift, table.bits()), rows(HOMINY_INT64, {29}, shift, indices.bits());
    const shifted to(dtype, {29, 37}, (shift * 5) % 64);
    here.kernels->embedding(from, rows, to);
    check(to.guards_intact(), "embedding: wrote outside");
    return to.bits();
  });
  same_bits_for_any_alignment("embedding_backward", [&](int64_t shift) {
    const shifted from(dtype, {29, 37}, shift, gradient.bits()), rows(HOMINY_INT64, {29}, shift, indices.bits());
    const shifted to(dtype, {7, 37}, (shift * 5) % 64);
    here.kernels->embedding_backward(from, rows, 1, to);
    check(to.guards_intact(), "embedding_backward: wrote outside");
    return to.bits();
  });
}

// ---- Dropout ----

struct four_words {
  uint32_t word[4];
};

// Philox4x32 with 7 rounds (https://doi.org/10.1145/2063384.2063405).
four_words philox(uint64_t key, uint64_t counter) {
  four_words c = {{uint32_t(counter), uint32_t(counter >> 32), 0, 0}};
  uint32_t low = uint32_t(key), high = uint32_t(key >> 32);
  for (int round = 0; round < 7; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c.word[0], b = uint64_t(0xCD9E8D57u) * c.word[2];
    c = {{uint32_t(b >> 32) ^ c.word[1] ^ low, uint32_t(b), uint32_t(a >> 32) ^ c.word[3] ^ high, uint32_t(a)}};
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  return c;
}

// The 32 bits of element i: word w, counter l of its chunk of 64, i = 64 chunk + 16 w + l.
uint32_t draw(uint64_t seed, int64_t i) { return philox(seed, uint64_t(i / 64 * 16 + i % 16)).word[i % 64 / 16]; }

template <class T>
std::vector<unsigned char> expected_dropout(const array& x, double p, uint64_t seed) {
  const T factor = p < 1 ? T(1 / (1 - p)) : T(0);
  const auto threshold = uint64_t(p * 4294967296.0);
  std::vector<unsigned char> all(size_t(x.size()) * sizeof(T));
  for (int64_t i = 0; i < x.size(); ++i) {
    T value;
    memcpy(&value, x.address(i), sizeof value);
    value = draw(seed, i) >= threshold ? value * factor : T(0);
    memcpy(all.data() + size_t(i) * sizeof value, &value, sizeof value);
  }
  return all;
}
std::vector<unsigned char> expected_dropout(const array& x, double p, uint64_t seed) {
  return x.dtype() == HOMINY_FLOAT32 ? expected_dropout<float>(x, p, seed) : expected_dropout<double>(x, p, seed);
}

constexpr uint64_t seeds[] = {0, 1, 0x9e3779b97f4a7c15u, uint64_t(1) << 32, ~uint64_t(0)};

void dropout_values(const level& here, int32_t dtype) {
  const four_words known = philox(0, 0);  // the authors' own test vector
  check(known.word[0] == 0x5f6fb709u && known.word[1] == 0x0d893f64u && known.word[2] == 0x4f121f81u &&
            known.word[3] == 0x4f730a48u,
        "the scalar Philox of this test");
  const auto run = [&](const std::vector<int64_t>& shape, double p, uint64_t seed, layout from, layout to) {
    array x(dtype, shape, from), out(dtype, shape, to);
    x.fill_uniform(seed + 1, -3, 3);
    const std::string what = "dropout " + text_of(shape) + " p " + std::to_string(p) + " seed " + std::to_string(seed) +
                             " " + name_of(from) + " -> " + name_of(to);
    const auto expected = expected_dropout(x, p, seed);
    if (!check_status(here.kernels->dropout(x, p, seed, out), HOMINY_OK, what)) return;
    check(out.guards_intact(), "%s: wrote outside its output", what.c_str());
    check(out.bits() == expected, "%s: not the bits of the scalar generator", what.c_str());
    check(x.untouched(), "%s: wrote to its input", what.c_str());
    here.kernels->dropout(x, p, seed, x);
    check(x.guards_intact() && x.bits() == expected, "%s: in place", what.c_str());
  };
  for (uint64_t seed : seeds)
    for (double p : {0.0, 0.1, 0.5, 0.75, 0.999, 1.0}) {
      for (int64_t n : {0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 200})
        run({n}, p, seed, layout::contiguous, layout::contiguous);
      run({97}, p, seed, layout::misaligned, layout::contiguous);
      run({97}, p, seed, layout::contiguous, layout::misaligned);
      run({97}, p, seed, layout::misaligned, layout::misaligned);
    }
  for (int64_t n : here.sizes(dtype)) run({n}, 0.3, 7, layout::contiguous, layout::contiguous);
  run({}, 0.25, 3, layout::contiguous, layout::contiguous);
  run({3, 5, 7}, 0.25, 3, layout::contiguous, layout::contiguous);
  run({3, 0, 7}, 0.25, 3, layout::contiguous, layout::contiguous);
  run(std::vector<int64_t>(HOMINY_MAX_NDIM, 1), 0.25, 3, layout::contiguous, layout::contiguous);
  run({here.settings.quick ? 5003 : 70001}, 0.5, 11, layout::contiguous, layout::contiguous);
}

void dropout_edges(const level& here, int32_t dtype) {
  // A probability on, just above and half a step above an element's own bits: rounded down, as the specification has
  // it.
  array x(dtype, {131}), out(dtype, {131});
  x.fill([](int64_t) { return 1.0L; });
  for (int64_t place : {0, 1, 17, 40, 63, 64, 130})
    for (double above : {0.0, 0.5, 1.0}) {
      const double p = (double(draw(5, place)) + above) * 0x1p-32;
      check_status(here.kernels->dropout(x, p, 5, out), HOMINY_OK, "dropout");
      check(out.bits() == expected_dropout(x, p, 5), "element %lld, %g above its bits", (long long)place, above);
      check((out[place] != 0) == (above < 1), "element %lld, %g above its bits, is %Lg", (long long)place, above,
            out[place]);
    }
  for (double p : {0x1p-60, 0x1p-1074, 1 - 0x1p-53, 1 - 0x1p-32}) {
    check_status(here.kernels->dropout(x, p, 9, out), HOMINY_OK, "dropout");
    check(out.bits() == expected_dropout(x, p, 9), "p = %.20g", p);
  }
  // Dropped is 0, whatever it was; kept is what it was, NaN included.
  const real odd[] = {NAN, INFINITY, -INFINITY, -0.0L, -1, dtype == HOMINY_FLOAT32 ? 3e38L : 1.7e308L};
  for (real value : odd)
    for (double p : {0.0, 0.5, 1.0}) {
      x.fill([&](int64_t) { return value; });
      check_status(here.kernels->dropout(x, p, 21, out), HOMINY_OK, "dropout");
      const auto threshold = uint64_t(p * 4294967296.0);
      bool right = true;
      for (int64_t i = 0; i < x.size(); ++i) {
        if (draw(21, i) < threshold)
          right = right && out[i] == 0 && !signbit(out[i]);
        else
          right = right && (isnan(value) ? isnan(out[i]) : true);
      }
      check(right, "%Lg, p = %g", value, p);
      if (!isnan(value)) check(out.bits() == expected_dropout(x, p, 21), "bits of %Lg, p = %g", value, p);
    }
}

void dropout_refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  array x(dtype, {4, 5}), out(dtype, {4, 5});
  x.fill_uniform(1, -1, 1);
  for (double p : {-0.1, -0x1p-1074, 1 + 0x1p-52, 2.0, double(NAN), double(INFINITY), -double(INFINITY)})
    check_refused(k.dropout(x, p, 1, out), {HOMINY_BAD_VALUE}, out, "dropout: p = " + std::to_string(p));
  for (const auto& bad : bad_tensors(x)) {
    const std::string what = bad.what;
    if (bad.expected == HOMINY_BAD_SHAPE && bad.tensor.ndim > HOMINY_MAX_NDIM) continue;
    check_refused(k.dropout(&bad.tensor, 0.5, 1, out), {bad.expected}, out, "dropout: x has " + what);
    check_refused(k.dropout(x, 0.5, 1, &bad.tensor), {bad.expected}, out, "dropout: out has " + what);
  }
  array smaller(dtype, {19}), larger(dtype, {5, 5});
  check_refused(k.dropout(x, 0.5, 1, smaller), {HOMINY_BAD_SHAPE}, smaller, "dropout: out is smaller");
  check_refused(k.dropout(x, 0.5, 1, larger), {HOMINY_BAD_SHAPE}, larger, "dropout: out is larger");
  const hominy_tensor huge = overflowing(x);
  check_refused(k.dropout(&huge, 0.5, 1, &huge), {HOMINY_OVERFLOW, HOMINY_BAD_SHAPE}, x, "dropout: 2^93 elements");
  // Not in C order: refused, or right.
  for (layout kind : {layout::transposed, layout::strided, layout::ragged, layout::negative}) {
    array from(dtype, {4, 5}, kind), to(dtype, {4, 5}, kind);
    from.fill([&](int64_t i) { return x[i]; });
    const std::string what = std::string("dropout ") + name_of(kind);
    if (const hominy_status status = k.dropout(from, 0.5, 1, out); status != HOMINY_OK)
      check_refused(status, {HOMINY_BAD_SHAPE, HOMINY_BAD_VALUE}, out, what);
    else
      check(out.guards_intact() && out.bits() == expected_dropout(x, 0.5, 1), "%s x", what.c_str());
    if (const hominy_status status = k.dropout(x, 0.5, 1, to); status != HOMINY_OK)
      check_refused(status, {HOMINY_BAD_SHAPE, HOMINY_BAD_VALUE}, to, what);
    else
      check(to.guards_intact() && to.bits() == expected_dropout(x, 0.5, 1), "%s out", what.c_str());
  }
}

void dropout_threads_and_alignment(const level& here, int32_t dtype) {
  const int64_t n = here.settings.quick ? 40009 : 200003;
  array x(dtype, {n}), out(dtype, {n}), small(dtype, {333});
  x.fill_uniform(1, -1, 1);
  small.fill_uniform(2, -1, 1);
  same_bits_for_any_number_of_threads("dropout", [&] {
    here.kernels->dropout(x, 0.3, 77, out);
    return out.bits();
  });
  same_bits_for_any_alignment("dropout", [&](int64_t shift) {
    const shifted from(dtype, {333}, shift, small.bits()), to(dtype, {333}, (shift * 5) % 64);
    here.kernels->dropout(from, 0.3, 77, to);
    check(to.guards_intact(), "dropout: wrote outside");
    return to.bits();
  });
}

}  // namespace

void embedding_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("embedding", embedding_values);
    group("embedding exactness", embedding_exactness);
    group("embedding bad indices", bad_indices);
    group("embedding refusals", embedding_refusals);
    group("embedding threads and alignment", embedding_threads_and_alignment);
  }
}

void dropout_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("dropout", dropout_values);
    group("dropout edges", dropout_edges);
    group("dropout refusals", dropout_refusals);
    group("dropout threads and alignment", dropout_threads_and_alignment);
  }
}

}  // namespace test
