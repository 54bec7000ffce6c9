// Weighted windows against sums in long double: lists drawn at random, every layout, the limits of the fast ways.
#include "guarded_bytes.hpp"
#include "window_lists.hpp"

namespace test {
namespace {

hominy_status run(const level& here, const array& x, const window_list (&lists)[3], const array& out) {
  const hominy_windows windows[] = {lists[0].windows(), lists[1].windows(), lists[2].windows()};
  const int64_t bytes = here.kernels->resample_workspace_size(x, windows);
  if (bytes < 0) return HOMINY_OVERFLOW;
  guarded_bytes scratch(0, bytes);
  const hominy_status status = here.kernels->resample(x, windows, out, scratch.data(), bytes);
  check(scratch.guards_intact(), "resample: wrote outside its scratch");
  return status;
}

void check_resample(const level& here, int32_t dtype, const image_case& c, layout from, layout to, bool weighted,
                    bool divided) {
  const window_list lists[] = {lists_for(c, 0, 0, weighted, divided), lists_for(c, 1, 1, weighted, false),
                               lists_for(c, 2, 0, weighted, divided)};
  array x(dtype, c.in, from), out(dtype, {c.in[0], c.in[1], c.out[0], c.out[1], c.out[2]}, to);
  x.fill_uniform(1, -2, 2);
  const std::string what = "resample " + text_of(c.in) + " " + name_of(from) + " -> " + name_of(to) +
                           (weighted ? " weighted" : "") + (divided ? " divided" : "");
  if (!check_status(run(here, x, lists, out), HOMINY_OK, what)) return;
  const real u = unit_roundoff(dtype);
  check_elements(out, what, [&](int64_t i) {
    const image_position at(i, out.shape());
    real sum = 0, magnitude = 0, terms = 0;
    for_window(lists, at, c.in, [&](int64_t element, int64_t, real weight) {
      sum += weight * x[element];
      magnitude += fabsl(weight * x[element]);
      ++terms;
    });
    const real divisor = lists[0].divisor(at.d) * lists[1].divisor(at.h) * lists[2].divisor(at.w);
    return expectation{sum / divisor, (terms + 12) * u * magnitude / divisor};
  });
  check(x.untouched(), "%s: wrote to its input", what.c_str());
}

void values(const level& here, int32_t dtype) {
  for (const image_case& c : image_cases)
    for (layout kind :
         {layout::contiguous, layout::channels_last, layout::misaligned, layout::channels_last_sliced, layout::strided})
      for (int way = 0; way < 4; ++way) check_resample(here, dtype, c, kind, kind, way & 1, way & 2);
  for (layout from : input_layouts)
    for (layout to : output_layouts) check_resample(here, dtype, image_cases[4], from, to, true, false);
}

// What a window does not list it does not read: neither an infinity beside it nor one under a weight that is padding.
void infinities(const level& here, int32_t dtype) {
  const image_case c = {{1, 1, 1, 1, 40}, {1, 1, 40}, 2, 1};
  window_list lists[] = {lists_for(c, 0, 1, false, false), lists_for(c, 1, 1, false, false),
                         lists_for(c, 2, 1, true, false)};
  for (size_t i = 0; i < 40; ++i) lists[2].counts[i] = i % 3 == 0 ? 0 : 1;
  array x(dtype, c.in), out(dtype, c.in);
  x.fill([](int64_t i) { return i % 4 == 1 ? INFINITY : i % 4 == 3 ? NAN : 1.0L; });
  check_status(run(here, x, lists, out), HOMINY_OK, "infinities");
  check_elements(out, "infinities", [&](int64_t i) {
    if (i % 3 == 0) return expectation{0, 0};
    const real value = x[lists[2].position(0, i)] * lists[2].weight(0, i);
    return expectation{value, isinf(value) ? 0 : 4 * unit_roundoff(dtype)};
  });
}

void refusals(const level& here, int32_t dtype) {
  const image_case c = {{2, 3, 1, 4, 5}, {1, 3, 4}, 2, 1};
  const auto fresh = [&](int d) { return lists_for(c, d, 1, true, true); };
  array x(dtype, c.in), out(dtype, {2, 3, 1, 3, 4});
  x.fill_uniform(1, -1, 1);
  out.fill_uniform(2, -1, 1);
  const auto refused = [&](const window_list(&lists)[3], const hominy_tensor* from, const hominy_tensor* to,
                           std::vector<hominy_status> allowed, const std::string& what) {
    const hominy_windows windows[] = {lists[0].windows(), lists[1].windows(), lists[2].windows()};
    guarded_bytes scratch(0, 1 << 16);
    check_refused(here.kernels->resample(from, windows, to, scratch.data(), 1 << 16), allowed, out, what);
  };
  const window_list good[] = {fresh(0), fresh(1), fresh(2)};
  for (int32_t wrong : {-1, 5, INT32_MAX, INT32_MIN}) {
    window_list lists[] = {fresh(0), fresh(1), fresh(2)};
    lists[2].positions[1] = wrong;
    refused(lists, x, out, {HOMINY_BAD_INDEX}, "a position outside");
    window_list counted[] = {fresh(0), fresh(1), fresh(2)};
    counted[1].counts[2] = wrong;
    refused(counted, x, out, {HOMINY_BAD_VALUE}, "a count outside");
  }
  for (const auto& bad : bad_tensors(x)) refused(good, &bad.tensor, out, {bad.expected, HOMINY_BAD_SHAPE}, bad.what);
  for (const auto& bad : bad_tensors(out)) refused(good, x, &bad.tensor, {bad.expected, HOMINY_BAD_SHAPE}, bad.what);
  hominy_windows huge[] = {good[0].windows(), good[1].windows(), good[2].windows()};
  huge[2].most = INT64_MAX / 4;
  check(here.kernels->resample_workspace_size(x, huge) < 0, "lists beyond int64 have a workspace size");
  check_refused(here.kernels->resample(x, huge, out, nullptr, INT64_MAX), {HOMINY_OVERFLOW}, out, "lists beyond int64");
  const hominy_windows windows[] = {good[0].windows(), good[1].windows(), good[2].windows()};
  check_refused(here.kernels->resample(x, windows, out, nullptr, 0), {HOMINY_NO_WORKSPACE}, out, "no workspace");
}

void threads(const level& here, int32_t dtype) {
  const image_case c = {{3, 33, 1, 30, 37}, {1, 41, 29}, 3, 1};
  for (layout kind : {layout::contiguous, layout::channels_last}) {
    const window_list lists[] = {lists_for(c, 0, 1, true, true), lists_for(c, 1, 1, true, true),
                                 lists_for(c, 2, 1, true, true)};
    array x(dtype, c.in, kind), out(dtype, {3, 33, 1, 41, 29}, kind);
    x.fill_uniform(1, -1, 1);
    same_bits_for_any_number_of_threads("resample", [&] {
      run(here, x, lists, out);
      return out.bits();
    });
  }
}

}  // namespace

void interpolate_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("resample", values);
    group("resample infinities", infinities);
    group("resample refusals", refusals);
    group("resample threads", threads);
  }
}

}  // namespace test
