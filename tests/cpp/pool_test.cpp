// Max pooling, its gradient, and gathering and scattering by indices, against plain loops.
#include "guarded_bytes.hpp"
#include "window_lists.hpp"

namespace test {
namespace {

int64_t index_at(const array& indices, int64_t i) {
  if (indices.dtype() == HOMINY_INT64) return int64_t(indices[i]);
  int32_t narrow;
  memcpy(&narrow, indices.address(i), sizeof narrow);
  return narrow;
}

void check_max_pool(const level& here, int32_t dtype, int32_t index_dtype, const image_case& c, layout from,
                    layout to) {
  const window_list lists[] = {lists_for(c, 0, 1, false, false), lists_for(c, 1, 1, false, false),
                               lists_for(c, 2, 1, false, false)};
  const hominy_windows windows[] = {lists[0].windows(), lists[1].windows(), lists[2].windows()};
  array x(dtype, c.in, from), out(dtype, {c.in[0], c.in[1], c.out[0], c.out[1], c.out[2]}, to);
  array indices(index_dtype, out.shape(), to);
  random_numbers random(3);
  x.fill([&](int64_t i) { return i % 11 == 5 ? NAN : i % 7 == 2 ? -INFINITY : real(random.below(4)); });
  const std::string what = "max_pool " + text_of(c.in) + " " + name_of(from) + " -> " + name_of(to);
  const int64_t bytes = here.kernels->max_pool_workspace_size(x, windows);
  guarded_bytes scratch(0, bytes);
  for (bool indexed : {false, true}) {
    const hominy_tensor* wanted = indexed ? static_cast<const hominy_tensor*>(indices) : nullptr;
    if (!check_status(here.kernels->max_pool(x, windows, out, wanted, scratch.data(), bytes), HOMINY_OK, what)) return;
    bool right = true;
    check_elements(out, what, [&](int64_t i) {
      const image_position at(i, out.shape());
      real best = -INFINITY;
      int64_t number = -1;
      for_window(lists, at, c.in, [&](int64_t element, int64_t its_number, real) {
        const real value = x[element];
        if (number < 0 || value > best || isnan(value)) {
          best = value;
          number = its_number;
        }
      });
      right = right && (!indexed || index_at(indices, i) == number);
      return expectation{best, 0};
    });
    check(right && indices.guards_intact() && scratch.guards_intact(), "%s: wrong indices", what.c_str());
  }
  check(x.untouched(), "%s: wrote to its input", what.c_str());
}

void values(const level& here, int32_t dtype) {
  for (const image_case& c : image_cases)
    for (layout kind :
         {layout::contiguous, layout::channels_last, layout::misaligned, layout::channels_last_sliced, layout::strided})
      for (int32_t index_dtype : {HOMINY_INT32, HOMINY_INT64}) check_max_pool(here, dtype, index_dtype, c, kind, kind);
  for (layout from : input_layouts)
    for (layout to : output_layouts) check_max_pool(here, dtype, HOMINY_INT64, image_cases[4], from, to);
}

void check_backward(const level& here, int32_t dtype, const image_case& c, layout from, layout to) {
  const window_list lists[] = {lists_for(c, 0, 0, false, false), lists_for(c, 1, 0, false, false),
                               lists_for(c, 2, 0, false, false)};
  const hominy_windows windows[] = {lists[0].windows(), lists[1].windows(), lists[2].windows()};
  array gradient(dtype, c.in, from), indices(dtype == HOMINY_FLOAT32 ? HOMINY_INT32 : HOMINY_INT64, c.in, from);
  array out(dtype, {c.in[0], c.in[1], c.out[0], c.out[1], c.out[2]}, to);
  gradient.fill_uniform(1, -1, 1);
  const int64_t plane = c.out[0] * c.out[1] * c.out[2];
  random_numbers random(5);
  for (int64_t i = 0; i < indices.size(); ++i) {  // about the right number, so that some match
    const image_position at(i, c.in);
    const int64_t near = (at.h * c.out[1] / c.in[3]) * c.out[2] + at.w * c.out[2] / c.in[4];
    const int64_t number = std::min(near + random.below(2), plane - 1);
    const int32_t narrow = int32_t(number);
    memcpy(indices.address(i), dtype == HOMINY_FLOAT32 ? static_cast<const void*>(&narrow) : &number,
           dtype == HOMINY_FLOAT32 ? 4 : 8);
  }
  const std::string what = "max_pool_backward " + text_of(c.in) + " " + name_of(from) + " -> " + name_of(to);
  const int64_t bytes = here.kernels->max_pool_workspace_size(gradient, windows);
  guarded_bytes scratch(0, bytes);
  const hominy_status status = here.kernels->max_pool_backward(gradient, indices, windows, out, scratch.data(), bytes);
  if (!check_status(status, HOMINY_OK, what)) return;
  check_elements(out, what, [&](int64_t i) {
    const image_position at(i, out.shape());
    const int64_t own = (at.d * c.out[1] + at.h) * c.out[2] + at.w;
    real sum = 0, magnitude = 0, terms = 0;
    for_window(lists, at, c.in, [&](int64_t element, int64_t, real) {
      if (index_at(indices, element) != own) return;
      sum += gradient[element];
      magnitude += fabsl(gradient[element]);
      ++terms;
    });
    return expectation{sum, terms * unit_roundoff(dtype) * magnitude};
  });
  check(gradient.untouched() && scratch.guards_intact(), "%s: wrote outside", what.c_str());
}

void gradients(const level& here, int32_t dtype) {
  for (const image_case& c : image_cases)
    for (layout kind :
         {layout::contiguous, layout::channels_last, layout::misaligned, layout::channels_last_sliced, layout::strided})
      check_backward(here, dtype, c, kind, kind);
  for (layout from : {layout::contiguous, layout::transposed, layout::strided, layout::negative, layout::channels_last})
    for (layout to : output_layouts) check_backward(here, dtype, image_cases[4], from, to);
}

void moves(const level& here, int32_t dtype) {
  for (layout kind : {layout::contiguous, layout::channels_last, layout::misaligned, layout::strided, layout::negative})
    for (int64_t channels : {1, 3, 70})
      for (int64_t batch : {1, 9}) {
        const int64_t plane = 23, count = 11;
        array x(dtype, {batch, channels, plane}, kind), indices(HOMINY_INT64, {batch, channels, count}, kind);
        array out(dtype, {batch, channels, count}, kind), whole(dtype, {batch, channels, plane}, kind);
        x.fill_uniform(1, -1, 1);
        random_numbers random(7);
        indices.fill([&](int64_t) { return real(random.below(plane)); });
        const std::string what = std::string(name_of(kind)) + " " + std::to_string(channels);
        check_status(here.kernels->gather_planes(x, indices, out), HOMINY_OK, "gather_planes " + what);
        check_elements(out, "gather_planes " + what,
                       [&](int64_t i) { return expectation{x[i / count * plane + int64_t(indices[i])], 0}; });
        for (int32_t sum : {0, 1}) {
          check_status(here.kernels->scatter_planes(sum, out, indices, whole), HOMINY_OK, "scatter_planes " + what);
          std::vector<expectation> expected(size_t(whole.size()), expectation{0, 0});
          for (int64_t i = 0; i < out.size(); ++i) {
            expectation& e = expected[size_t(i / count * plane + int64_t(indices[i]))];
            e = sum ? expectation{e.value + out[i], e.bound + 11 * unit_roundoff(dtype) * fabsl(out[i])}
                    : expectation{out[i], 0};
          }
          check_elements(whole, "scatter_planes " + what, [&](int64_t i) { return expected[size_t(i)]; });
        }
        for (int64_t bad : {int64_t(-1), plane, int64_t(1) << 40, INT64_MIN, INT64_MAX}) {
          memcpy(indices.address(indices.size() / 2), &bad, sizeof bad);
          check_status(here.kernels->gather_planes(x, indices, out), HOMINY_BAD_INDEX, "gather_planes " + what);
          for (int32_t sum : {0, 1})
            check_status(here.kernels->scatter_planes(sum, out, indices, whole), HOMINY_BAD_INDEX,
                         "scatter_planes " + what);
        }
        check(out.guards_intact() && whole.guards_intact(), "an index out of range: wrote outside");
      }
}

void refusals(const level& here, int32_t dtype) {
  const image_case c = {{2, 3, 1, 4, 5}, {1, 3, 4}, 2, 1};
  const auto fresh = [&](int d) { return lists_for(c, d, 1, false, false); };
  array x(dtype, c.in), out(dtype, {2, 3, 1, 3, 4});
  x.fill_uniform(1, -1, 1);
  out.fill_uniform(2, -1, 1);
  guarded_bytes scratch(0, 1 << 16);
  const auto refused = [&](const window_list(&lists)[3], const hominy_tensor* from, const hominy_tensor* to,
                           const hominy_tensor* indices, std::vector<hominy_status> allowed, const std::string& what) {
    const hominy_windows windows[] = {lists[0].windows(), lists[1].windows(), lists[2].windows()};
    check_refused(here.kernels->max_pool(from, windows, to, indices, scratch.data(), 1 << 16), allowed, out, what);
  };
  const window_list good[] = {fresh(0), fresh(1), fresh(2)};
  window_list outside[] = {fresh(0), fresh(1), fresh(2)}, empty[] = {fresh(0), fresh(1), fresh(2)};
  outside[1].positions[0] = 4;
  empty[2].counts[1] = 0;
  refused(outside, x, out, nullptr, {HOMINY_BAD_INDEX}, "a position outside");
  refused(empty, x, out, nullptr, {HOMINY_BAD_VALUE}, "a window without an element");
  for (const auto& bad : bad_tensors(x))
    refused(good, &bad.tensor, out, nullptr, {bad.expected, HOMINY_BAD_SHAPE}, bad.what);
  for (const auto& bad : bad_tensors(out))
    refused(good, x, &bad.tensor, nullptr, {bad.expected, HOMINY_BAD_SHAPE}, bad.what);
  array floats(dtype, out.shape()), fewer(HOMINY_INT64, {2, 3, 1, 3, 3}), numbers(HOMINY_INT64, out.shape());
  refused(good, x, out, floats, {HOMINY_BAD_DTYPE}, "indices of a float dtype");
  refused(good, x, out, fewer, {HOMINY_BAD_SHAPE}, "fewer indices");
  const hominy_windows windows[] = {good[0].windows(), good[1].windows(), good[2].windows()};
  check_refused(here.kernels->max_pool(x, windows, out, numbers, scratch.data(), 8), {HOMINY_NO_WORKSPACE}, out,
                "no workspace");
  array wrong(dtype == HOMINY_FLOAT32 ? HOMINY_INT64 : HOMINY_INT32, c.in);
  check_refused(here.kernels->max_pool_backward(x, wrong, windows, out, scratch.data(), 1 << 16), {HOMINY_BAD_DTYPE},
                out, "indices of another width");
}

void threads(const level& here, int32_t dtype) {
  const image_case c = {{3, 33, 1, 30, 37}, {1, 41, 29}, 3, 1};
  for (layout kind : {layout::contiguous, layout::channels_last}) {
    const window_list lists[] = {lists_for(c, 0, 1, false, false), lists_for(c, 1, 1, false, false),
                                 lists_for(c, 2, 1, false, false)};
    const hominy_windows windows[] = {lists[0].windows(), lists[1].windows(), lists[2].windows()};
    array x(dtype, c.in, kind), out(dtype, {3, 33, 1, 41, 29}, kind), indices(HOMINY_INT64, out.shape(), kind);
    x.fill_uniform(1, -1, 1);
    const int64_t bytes = here.kernels->max_pool_workspace_size(x, windows);
    guarded_bytes scratch(0, bytes);
    same_bits_for_any_number_of_threads("max_pool", [&] {
      here.kernels->max_pool(x, windows, out, indices, scratch.data(), bytes);
      return out.bits();
    });
  }
}

}  // namespace

void pool_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("max_pool", values);
    group("max_pool_backward", gradients);
    group("gather and scatter", moves);
    group("max_pool refusals", refusals);
    group("max_pool threads", threads);
  }
}

}  // namespace test
