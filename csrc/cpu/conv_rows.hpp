// Rows of images as a block of positions reads them: channels together, with zeros where the kernel hangs over, and each
// of them once, though several rows of the result read it. The patch of a position is a piece of each of a few rows.
//
//   rows[height tap][depth tap][pixel][channel], the rows of a run of positions; the next run of the same plane lies
//   so many rows further on that what both read is shared (of 3 height taps at stride 1, two)
//
// A row of 32 positions of a 3x3x3 kernel reads 9 rows of an image, the seven rows behind it 3 each: 27 elements of patch
// a position become 1.1 x 3.75 elements of rows.
#pragma once
#include "conv_sampling.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t rows_in_cache = 384 * 1024;  // bytes of image rows, beside a strip of weights

struct image_rows {
  int64_t pixel_pitch, row_pitch, run_pitch;  // bytes; run_pitch: of all that a run reads
  int64_t new_taps;                           // of the height: those whose rows the run before has not read
  int64_t pieces, piece_length;               // of a patch; one a tap, or one a row of taps

  // The layout for runs of `run` positions; whether one of them fits.
  template <class T>
  bool plan(const sampling& from, int64_t run) {
    constexpr int64_t size = sizeof(T);
    const sampled_axis &height = from.axis[1], &along = from.axis[2];
    const int64_t pixel = from.channels * size, rows = from.axis[0].taps * height.taps;
    const bool collide = pixel * along.step % 1024 == 0;
    const bool joined = !collide && along.offset_step == 1;
    pixel_pitch = collide ? pixel + 64 : pixel;
    int64_t span;
    if (__builtin_mul_overflow(along.taps, along.offset_step, &span)) return false;
    span += run * along.step;
    if (__builtin_mul_overflow(span, pixel_pitch, &row_pitch) || row_pitch > rows_in_cache) return false;
    row_pitch = packed_row<char>(row_pitch);
    if (__builtin_mul_overflow(rows, row_pitch, &run_pitch)) return false;
    new_taps = height.offset_step == 1 ? minimum_of(height.step, height.taps) : height.taps;
    pieces = joined ? rows : rows * along.taps;
    piece_length = joined ? along.taps * from.channels : from.channels;
    return run_pitch <= rows_in_cache && pieces <= rows_in_cache / 64;
  }

  // offset[i]: where piece i of a patch lies behind the first, in the order (depth, height, width) of taps.
  void place_pieces(const sampling& from, int64_t* offset) const {
    const int64_t a_row = pieces / (from.axis[0].taps * from.axis[1].taps);
    for (int64_t t0 = 0; t0 < from.axis[0].taps; t0++)
      for (int64_t t1 = 0; t1 < from.axis[1].taps; t1++)
        for (int64_t t2 = 0; t2 < a_row; t2++)
          *offset++ = (t1 * from.axis[0].taps + t0) * row_pitch + t2 * from.axis[2].offset_step * pixel_pitch;
  }

  // Copies what the runs read; at[r]: where the first patch of run r begins. Room: run_pitch a run.
  template <class T>
  void copy(const sampling& from, const position_run* runs, int64_t run_count, char* to, const char** at) const {
    const int64_t height_step = from.axis[0].taps * row_pitch;
    for (int64_t r = 0; r < run_count; r++) {
      const position_run& run = runs[r];
      const bool follows = r > 0 && run.image == runs[r - 1].image && run.q[0] == runs[r - 1].q[0] &&
                           run.q[1] == runs[r - 1].q[1] + 1 && run.q[2] == runs[r - 1].q[2];
      if (r > 0) to += (follows ? new_taps : from.axis[1].taps) * height_step;
      at[r] = to;
      for (int64_t t1 = follows ? from.axis[1].taps - new_taps : 0; t1 < from.axis[1].taps; t1++)
        for (int64_t t0 = 0; t0 < from.axis[0].taps; t0++)
          copy_row<T>(from, run, t0, t1, to + t1 * height_step + t0 * row_pitch);
    }
  }

 private:
  template <class T>
  void copy_row(const sampling& from, const position_run& run, int64_t t0, int64_t t1, char* to) const {
    const sampled_axis &depth = from.axis[0], &height = from.axis[1], &along = from.axis[2];
    const int64_t pixel = from.channels * int64_t(sizeof(T)), first = run.q[2] * along.step + along.offset;
    const int64_t span = (run.count - 1) * along.step + (along.taps - 1) * along.offset_step + 1;
    const int64_t i0 = run.q[0] * depth.step + depth.offset + t0 * depth.offset_step;
    const int64_t i1 = run.q[1] * height.step + height.offset + t1 * height.offset_step;
    if (!inside(i0, depth.extent) || !inside(i1, height.extent)) {
      memset(to, 0, size_t(span * pixel_pitch));
      return;
    }
    const valid_range valid(first, 1, span, along.extent);
    const char* source = from.in.data + run.image * from.in.batch + i0 * from.in.space[0] + i1 * from.in.space[1] +
                         (first + valid.low) * from.in.space[2];
    memset(to, 0, size_t(valid.low * pixel_pitch));
    char* target = to + valid.low * pixel_pitch;
    if (pixel_pitch == pixel && from.in.space[2] == pixel)
      copy_elements((T*)target, (const T*)source, (valid.high - valid.low) * from.channels);
    else
      for (int64_t i = valid.low; i < valid.high; i++, target += pixel_pitch, source += from.in.space[2])
        copy_elements((T*)target, (const T*)source, from.channels);
    memset(to + valid.high * pixel_pitch, 0, size_t((span - valid.high) * pixel_pitch));
  }
};

}  // namespace
}  // namespace hominy::HOMINY_LEVEL
