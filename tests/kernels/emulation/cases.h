// The plans that schedules are explored on. Small ones: what matters is which branch a tensor
// takes.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "../../../csrc/cuda/kernel_args.h"

namespace emulation {

using adamp::DType;
using adamp::Method;
using adamp::Projection;
using adamp::View;

struct TensorSpec {
  int64_t rows, cols;
  DType dtype = DType::kFloat32;
  Projection projection = Projection::kAuto;
  int offset = 0;                              // of weight and moments, in elements from a boundary
  int grad_offset = 0;                         // of the gradient
  int no_grad_in = -1;                         // a step in which it has no gradient
  int nan_in = -1;                             // a step in which its gradient has a NaN
  int moment1_offset = 0, moment2_offset = 0;  // beyond `offset`
  bool infinite = false;                       // its first, middle and last weight
  // Rows, or columns, that each of several processes has; none: the first process has them all.
  std::vector<int64_t> parts;
  bool parts_of_rows = false;  // by columns
  bool is_measured = true;     // in a run that measures
};

struct Options {
  double lr = 1e-2, weight_decay = 0.1;
  bool nesterov = false, maximize = false, project_buffer = true, lr_on_device = false;
  double eps = 1e-8, delta = 0.15;
  bool decay_on_device = false, counts_on_device = false;
  double grad_scale = 1;  // of 1: none is given
  double max_norm = 0;    // of all gradients; 0: they are not clipped
};

struct Case {
  std::string name;
  Method method;
  Options options;
  std::vector<TensorSpec> tensors;
  int steps = 4;
  int weight = 1;            // how often it is tried, against the others
  bool own_hypers = false;   // one for each tensor, in every other step
  int idle_in = -1;          // a step in which no tensor has a gradient
  View last = View::kNone;   // the outcome before the first step
  int skipped_in = -1;       // a step in which an infinite gradient has been found
  bool is_captured = false;  // but for the first run: all steps go into a graph, which runs then
};

inline const std::vector<Case>& cases() {
  constexpr DType kFloat = DType::kFloat32, kDouble = DType::kFloat64, kBrain = DType::kBFloat16,
                  kHalf = DType::kFloat16;
  constexpr Projection kAuto = Projection::kAuto, kChannel = Projection::kChannel,
                       kLayer = Projection::kLayer, kOff = Projection::kOff;
  constexpr Method kAdamP = Method::kAdamP, kSGDP = Method::kSGDP;
  static const auto make = [] {
    std::vector<Case> all;
    // Several tiles: whole rows, pieces of rows, more rows than a tile may hold.
    const std::vector<TensorSpec> large = {{40, 401}, {2, 7300}, {1, 8001}, {300, 17}};
    all.push_back({"few_large", kAdamP, {}, large, 6, 4});
    all.push_back({"few_large_nesterov", kAdamP, {1e-2, 0.1, true, true}, large, 6, 2});
    all.push_back({"few_large_sgdp", kSGDP, {}, large, 6, 2, true});
    all.push_back({"few_large_paper", kSGDP, {1e-2, 0.1, false, true, false}, large, 6, 2});
    // A tile of one row, which it does not fill.
    all.push_back({"one_row_tiles", kAdamP, {}, {{3, 4001}}, 2});
    // Norms on either side of eps.
    const std::vector<TensorSpec> short_rows = {{40, 401}, {9, 31}, {12, 1}};
    all.push_back(
        {"large_eps", kAdamP, {1e-2, 0.1, false, false, true, false, 0.3}, short_rows, 6});
    // No cosine is below zero, not even that of a zero gradient.
    const Options zero_delta = {1e-2, 0.1, false, false, true, false, 1e-8, 0};
    all.push_back({"zero_delta", kSGDP, zero_delta, {{12, 1}, {5, 7}}, 2});
    // Shrinks to nothing, unprojected or projected: what has been done could not be rolled back.
    all.push_back({"large_decay", kAdamP, {1e-2, 100}, large, 3});
    all.push_back({"large_projected_decay",
                   kAdamP,
                   {1e-2, 1 / 3e-3},
                   {{2, 3}, {2, 3}, {2300, 17}},
                   2,
                   1,
                   false,
                   -1,
                   View::kChannel});
    // All rows pass, and a few cannot be rolled back, each followed in its lane by some that can.
    all.push_back({"few_pending", kAdamP, {}, {{300, 40}}, 1, 1, false, -1, View::kChannel});
    // Nobody looks at a row again, whatever its update, where the projection is fixed.
    all.push_back({"channel_large_steps",
                   kAdamP,
                   {1, 0.1},
                   {{70, 401, kFloat, kChannel}, {3, 4001, kFloat, kChannel}},
                   2});
    // Thin rows: of one tile and of several, of an odd length and of a power of two.
    const std::vector<TensorSpec> thin = {{300, 3}, {3500, 2}, {700, 16}, {6200, 1}, {500, 13}};
    all.push_back({"thin", kAdamP, {}, thin, 6, 2});
    all.push_back({"thin_nesterov", kAdamP, {1e-2, 0.1, true, true}, thin, 6});
    all.push_back({"thin_sgdp", kSGDP, {}, thin, 6});
    all.push_back({"thin_paper", kSGDP, {1e-2, 0.1, false, true, false}, thin, 6});
    all.push_back({"thin_large_decay", kAdamP, {1e-2, 100}, {{700, 9}, {800, 8}}, 3});
    all.push_back(
        {"thin_fixed",
         kSGDP,
         {},
         {{700, 9, kFloat, kChannel}, {200, 5, kFloat, kChannel}, {700, 9, kFloat, kLayer}},
         2});
    all.push_back({"thin_misaligned",
                   kAdamP,
                   {},
                   {{700, 9, kFloat, kAuto, 1, 1},
                    {200, 7, kFloat, kAuto, 3, 2},
                    {700, 12, kFloat, kAuto, 0, 0, 1, 2}},
                   4});
    all.push_back({"thin_types",
                   kAdamP,
                   {1e-2, 0.1, false, false, true, false, 1e-3},
                   {{500, 9, kDouble}, {100, 4, kDouble}, {700, 9, kBrain}, {400, 16, kHalf}},
                   6});
    all.push_back({"thin_types_sgdp", kSGDP, {}, {{500, 9, kDouble}, {400, 5, kHalf}}, 6});
    // One tile each: tails of all lengths, rows shared by warps or the other way round.
    Case small = {"many_small", kAdamP, {}, {}, 3};
    for (int i = 0; i < 16; ++i) small.tensors.push_back({1 + i * 7 % 19, 1 + i * 13 % 37});
    small.tensors.push_back({1, 64, kFloat, kOff});
    small.tensors.push_back({13, 1});
    small.tensors.push_back({30, 9});
    all.push_back(small);
    small.name = "many_small_sgdp";
    small.method = kSGDP;
    all.push_back(small);
    for (const DType dtype : {kDouble, kBrain, kHalf}) {
      const int64_t tile = adamp::tile_elements(dtype);
      const std::string name = dtype == kDouble  ? "float64"
                               : dtype == kBrain ? "bfloat16"
                                                 : "float16";
      const std::vector<TensorSpec> tensors = {{2, tile + 9, dtype}, {tile / 100, 211, dtype},
                                               {9, 31, dtype},       {1, 77, dtype, kOff},
                                               {1, tile, dtype},     {3, 50}};
      Options options;
      if (dtype == kHalf)
        options.eps = 1e-3;  // its second moments are zero where gradients are short
      all.push_back({name, kAdamP, options, tensors, 4});
      all.push_back({name + "_sgdp", kSGDP, {}, tensors, 4});
    }
    for (const Projection fixed : {kChannel, kLayer, kOff}) {
      const std::string name = fixed == kChannel ? "channel" : fixed == kLayer ? "layer" : "off";
      all.push_back({name,
                     kAdamP,
                     {},
                     {{40, 401, kFloat, fixed}, {2, 7300, kFloat, fixed}, {5, 90, kFloat, fixed}},
                     2});
    }
    // Beside tensors that are not measured.
    std::vector<TensorSpec> mixed = {{30, 301, kHalf},   {16, 16},
                                     {40, 401},          {1, 100, kDouble, kOff},
                                     {2, 3700, kDouble}, {30, 290, kBrain, kLayer}};
    for (TensorSpec spec : std::vector<TensorSpec>{
             {12, 700}, {9, 31}, {400, 5}, {1, 7000, kFloat, kOff}, {30, 290, kBrain}}) {
      spec.is_measured = false;
      mixed.push_back(spec);
    }
    all.push_back({"mixed", kSGDP, {1e-2, 0.1, true, false, true, true}, mixed, 4, 2});
    for (TensorSpec& spec : mixed) spec.dtype = kFloat;
    all.push_back({"mixed_float", kAdamP, {}, mixed, 3});
    all.push_back({"misaligned",
                   kAdamP,
                   {},
                   {{40, 401, kFloat, kAuto, 1, 1},
                    {9, 33, kFloat, kAuto, 3, 3},
                    {50, 150, kFloat, kAuto, 0, 1},
                    {2, 3, kFloat, kAuto, 3, 3},
                    {1, adamp::tile_elements(kFloat), kFloat, kAuto, 1, 1},
                    {9, 33, kFloat, kAuto, 0, 0, -1, -1, 1},
                    {9, 33, kFloat, kAuto, 0, 0, -1, -1, 0, 2}},
                   3});
    all.push_back({"misaligned_half",
                   kAdamP,
                   {1e-2, 0.1, false, false, true, false, 1e-3},
                   {{2, 7301, kBrain, kAuto, 5, 5},
                    {7, 9, kHalf, kAuto, 1, 0},
                    {40, 211, kHalf, kAuto, 7, 7}},
                   3});
    all.push_back({"no_gradient",
                   kAdamP,
                   {},
                   {{40, 401, kFloat, kAuto, 0, 0, 1},
                    {8, 8, kFloat, kAuto, 0, 0, 0},
                    {2, 7300, kFloat, kAuto, 0, 0, 2},
                    {4, 0},
                    {0, 5},
                    {20, 20}},
                   5,
                   1,
                   false,
                   3});
    all.push_back({"nothing", kAdamP, {}, {{4, 0}, {0, 5}}, 2});
    // A NaN stays where it is: in its element, or in its row where that is projected.
    all.push_back({"nan",
                   kAdamP,
                   {},
                   {{40, 401, kFloat, kAuto, 0, 0, -1, 1},
                    {9, 31, kFloat, kAuto, 0, 0, -1, 1},
                    {2, 7300, kFloat, kAuto, 0, 0, -1, 2},
                    {9, 31, kFloat, kChannel, 0, 0, -1, 0}},
                   4});
    // Infinite weights stay infinite, and nothing is projected along them.
    std::vector<TensorSpec> infinite = {{40, 401}, {2, 7300}, {9, 31}, {700, 9}, {1, 90}};
    infinite.back().projection = kOff;
    for (const Projection fixed : {kChannel, kLayer}) {
      for (int i = 0; i < 4; ++i) {
        infinite.push_back(infinite[i]);
        infinite.back().projection = fixed;
      }
    }
    for (TensorSpec& tensor : infinite) tensor.infinite = true;
    all.push_back({"infinite", kAdamP, {}, infinite, 2});
    all.push_back({"infinite_sgdp", kSGDP, {}, infinite, 2, 1, false, -1, View::kChannel});
    // What the device decides: counts, numbers of the options, the scale of the gradients, a step
    // that is skipped, and the norm of all gradients. Beside tensors without a gradient.
    const std::vector<TensorSpec> some = {{40, 401},
                                          {2, 7300},
                                          {9, 31, kFloat, kAuto, 0, 0, 1},
                                          {700, 9},
                                          {30, 301, kFloat, kChannel},
                                          {4, 0},
                                          {1, 90, kFloat, kOff}};
    Options on_device;
    on_device.lr_on_device = on_device.decay_on_device = on_device.counts_on_device = true;
    all.push_back({"device_counts", kAdamP, on_device, some, 4, 3});
    Options scaled = on_device;
    scaled.grad_scale = 8;
    all.push_back({"scaled", kAdamP, scaled, some, 5, 2, false, -1, View::kNone, 2});
    Options of_sgdp = scaled;  // which has no count
    of_sgdp.counts_on_device = false;
    of_sgdp.nesterov = true;
    all.push_back({"scaled_sgdp", kSGDP, of_sgdp, some, 5, 1, false, -1, View::kNone, 0});
    Options clipped;
    clipped.max_norm = 0.5;
    all.push_back({"clipped", kAdamP, clipped, some, 4, 3, false, 2});
    clipped.max_norm = 1e9;  // more than it is
    all.push_back({"clipped_little", kSGDP, clipped, some, 2, 2});
    scaled.max_norm = 0.5;
    all.push_back({"clipped_scaled", kAdamP, scaled, some, 4, 2, false, -1, View::kNone, 1});
    scaled.eps = 1e-3;
    all.push_back(
        {"clipped_types", kAdamP, scaled, {{40, 401, kBrain}, {9, 31, kHalf}, {2, 7300}}, 3});
    all.push_back({"clipped_double", kAdamP, scaled, {{40, 211, kDouble}, {9, 31, kDouble}}, 3});
    // An infinite norm, and one that is none.
    std::vector<TensorSpec> nan_norm = {{40, 401}, {9, 31}};
    nan_norm[1].nan_in = 1;
    all.push_back({"clipped_nan", kAdamP, clipped, nan_norm, 3});
    // Tensors that three processes have parts of: whole rows, in tiles of all kinds, none of them
    // here and there; beside tensors that are all here.
    const auto cut = [](TensorSpec spec, std::vector<int64_t> parts, bool parts_of_rows = false) {
      spec.parts = std::move(parts);
      spec.parts_of_rows = parts_of_rows;
      return spec;
    };
    const std::vector<TensorSpec> by_rows = {
        cut({40, 401}, {17, 23, 0}),   cut({3, 6200}, {1, 0, 2}), cut({300, 17}, {150, 10, 140}),
        cut({400, 9}, {200, 20, 180}), cut({2, 50}, {1, 1, 0}),   {9, 31}};
    all.push_back({"rows_shared", kAdamP, {}, by_rows, 11});
    all.push_back({"rows_shared_paper", kSGDP, {1e-2, 0.1, false, true, false}, by_rows, 6});
    all.push_back({"rows_shared_nesterov", kSGDP, {1e-2, 0.1, true}, by_rows, 6, 1, true});
    // Rows that cannot be rolled back, so that they wait although all rows pass.
    all.push_back({"rows_shared_pending",
                   kAdamP,
                   {},
                   {cut({300, 40}, {128, 172})},
                   1,
                   1,
                   false,
                   -1,
                   View::kChannel});
    // Parts of rows, none in the last process, which then has nothing to do but to be counted.
    const auto by_cols_of = [&](Projection projection, DType dtype = DType::kFloat32) {
      const TensorSpec like = {0, 0, dtype, projection};
      std::vector<TensorSpec> made;
      const auto add = [&](int64_t rows, std::vector<int64_t> parts) {
        TensorSpec spec = like;
        spec.rows = rows;
        for (const int64_t cols : parts) spec.cols += cols;
        made.push_back(cut(spec, parts, true));
      };
      add(40, {200, 201, 0});
      add(2, {6200, 20, 0});
      add(300, {8, 9, 0});
      add(200, {4, 5, 0});
      add(6, {1, 1, 0});
      return made;
    };
    all.push_back({"columns_shared", kAdamP, {}, by_cols_of(kAuto), 11});
    all.push_back({"columns_shared_sgdp", kSGDP, {}, by_cols_of(kAuto), 6, 1, true});
    std::vector<TensorSpec> fixed_shared = by_cols_of(kLayer);
    for (const TensorSpec& spec : by_cols_of(kChannel)) fixed_shared.push_back(spec);
    fixed_shared.push_back(cut({40, 401, kFloat, kLayer}, {17, 23, 0}));
    fixed_shared.push_back(cut({400, 9, kFloat, kLayer}, {200, 200, 0}));
    fixed_shared.push_back(cut({8, 50, kFloat, kChannel}, {5, 3, 0}));  // no sums are needed
    fixed_shared.push_back(cut({8, 50, kFloat, kOff}, {5, 3, 0}));
    // The same where parts have several tiles.
    fixed_shared.push_back(cut({40, 401, kFloat, kChannel}, {17, 23, 0}));
    fixed_shared.push_back(cut({800, 9, kFloat, kChannel}, {700, 100, 0}));
    fixed_shared.push_back(cut({3, 6200, kFloat, kOff}, {1, 2, 0}));
    all.push_back({"fixed_shared", kAdamP, {}, fixed_shared, 2});
    std::vector<TensorSpec> types_shared = by_cols_of(kAuto, kDouble);
    types_shared[1] = cut({2, 3300, kDouble}, {3200, 100, 0}, true);
    for (const DType dtype : {kDouble, kBrain, kHalf}) {
      types_shared.push_back(cut({40, 211, dtype}, {17, 23, 0}));
      types_shared.push_back(cut({40, 211, dtype}, {100, 111, 0}, true));
    }
    Options coarse;
    coarse.eps = 1e-3;
    all.push_back({"types_shared", kAdamP, coarse, types_shared, 4});
    all.push_back({"types_shared_sgdp", kSGDP, {}, types_shared, 4});
    // What the device decides; once in a graph.
    std::vector<TensorSpec> some_shared = {cut({40, 401}, {17, 23, 0}),
                                           cut({9, 31, kFloat, kAuto, 0, 0, 1}, {4, 4, 1}),
                                           cut({30, 31}, {16, 15, 0}, true),
                                           {40, 401},
                                           {8, 50, kFloat, kOff}};
    Options shared = on_device;
    shared.grad_scale = 8;
    Case scaled_shared = {"shared_scaled", kAdamP, shared, some_shared, 5, 1, false, -1,
                          View::kNone,     2};
    all.push_back(scaled_shared);
    scaled_shared.name = "shared_captured";
    scaled_shared.is_captured = true;
    all.push_back(scaled_shared);
    all.push_back({"shared_idle", kSGDP, {}, some_shared, 4, 1, false, 2});
    // More values than travel in the launch, where each tensor has options of its own.
    const int64_t too_many = adamp::kInlineCapacity / adamp::step_values_size(1, 1) + 1;
    std::vector<TensorSpec> tiny(too_many, TensorSpec{2, 3});
    tiny[7] = {50, 150};
    all.push_back({"staged_values", kSGDP, {}, tiny, 3, 1, true});
    std::vector<TensorSpec> staged_shared(too_many, TensorSpec{2, 3});
    staged_shared[7] = cut({50, 150}, {20, 30});
    Case staged = {"shared_staged", kAdamP, {}, staged_shared, 2, 1, true};
    staged.is_captured = true;
    all.push_back(staged);
    // Fix-up tasks that cover several tiles, and more than one of them: 17 tiles, and 16.
    all.push_back({"many_tiles", kAdamP, {}, {{2050, 17}, {2048, 17}}, 4, 3});
    // Partial sums, and pieces of rows, of more than one round of a block. Last, for they take
    // long.
    std::vector<TensorSpec> sums(5, TensorSpec{2, 3});
    sums.push_back({49300, 17});
    all.push_back({"many_sums", kAdamP, {}, sums, 1});
    all.push_back({"many_split_rows", kAdamP, {}, {{77, 3201, kDouble}}, 1});
#if defined(EMULATION_FLOAT_ONLY)
    const auto other = [](const TensorSpec& t) { return t.dtype != DType::kFloat32; };
    all.erase(std::remove_if(all.begin(), all.end(),
                             [&](const Case& c) {
                               return std::any_of(c.tensors.begin(), c.tensors.end(), other);
                             }),
              all.end());
#endif
    return all;
  };
  static const std::vector<Case> value = make();
  return value;
}

}  // namespace emulation
