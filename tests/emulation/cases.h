// The plans that schedules are explored on. Small ones: what matters is which branch a tensor takes.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "../../csrc/step_args.h"

namespace emulation {

using adamp::DType;
using adamp::Method;
using adamp::Projection;

struct TensorSpec {
  int64_t rows, cols;
  DType dtype = DType::kFloat32;
  Projection projection = Projection::kAuto;
  int offset = 0;       // of weight and moments, in elements from a boundary
  int grad_offset = 0;  // of the gradient
  int no_grad_in = -1;  // a step in which it has no gradient; -2: in none
};

struct Options {
  double lr = 1e-2, weight_decay = 0.1;
  bool nesterov = false, maximize = false, project_buffer = true;
};

struct Case {
  std::string name;
  Method method;
  Options options;
  std::vector<TensorSpec> tensors;
  int steps = 4;
  bool own_hypers = false;  // one for each tensor
};

inline const std::vector<Case>& cases() {
  constexpr DType kDouble = DType::kFloat64, kBrain = DType::kBFloat16, kHalf = DType::kFloat16;
  constexpr Projection kAuto = Projection::kAuto, kChannel = Projection::kChannel,
                       kLayer = Projection::kLayer, kOff = Projection::kOff;
  constexpr Method kAdamP = Method::kAdamP, kSGDP = Method::kSGDP;
  static const auto make = [] {
    std::vector<Case> all;
    // One item each: tails of all lengths, rows shared by warps or the other way round.
    Case small = {"many_small", kAdamP, {}, {}, 3};
    for (int i = 0; i < 24; ++i) {
      small.tensors.push_back({1 + i * 7 % 19, 1 + i * 13 % 37});
    }
    small.tensors.push_back({1, 64, DType::kFloat32, kOff});
    small.tensors.push_back({13, 1});
    all.push_back(small);
    small.name = "many_small_sgdp";
    small.method = kSGDP;
    all.push_back(small);
    // Several items: whole rows, pieces of rows, more rows than an item may hold.
    const std::vector<TensorSpec> large = {{30, 401}, {2, 5700}, {1, 6001}, {300, 3}};
    all.push_back({"few_large", kAdamP, {}, large, 6});
    all.push_back({"few_large_nesterov", kAdamP, {1e-2, 0.1, true}, large, 6});
    all.push_back({"few_large_sgdp", kSGDP, {}, large, 6});
    all.push_back({"few_large_paper", kSGDP, {1e-2, 0.1, false, true, false}, large, 6});
    // Shrinks by more than half: what has been done cannot be undone, so nothing is done early.
    all.push_back({"large_decay", kAdamP, {1e-2, 60}, large, 3});
    // Finish tickets that cover several items, and more than one of them.
    all.push_back({"many_items", kAdamP, {}, {{2300, 2}, {5, 7}}, 4});
    for (const DType dtype : {kDouble, kBrain, kHalf}) {
      const int64_t tile = dtype == kDouble ? 2816 : 5632;
      const std::string name = dtype == kDouble ? "float64" : dtype == kBrain ? "bfloat16" : "float16";
      const std::vector<TensorSpec> tensors = {{2, tile + 9, dtype}, {tile / 100, 211, dtype},
                                               {9, 31, dtype},       {1, 77, dtype, kOff},
                                               {1, tile, dtype},     {3, 50}};
      all.push_back({name, kAdamP, {}, tensors, 4});
      all.push_back({name + "_sgdp", kSGDP, {}, tensors, 4});
    }
    for (const Projection fixed : {kChannel, kLayer, kOff}) {
      const std::string name = fixed == kChannel ? "channel" : fixed == kLayer ? "layer" : "off";
      all.push_back({name, kAdamP, {}, {{30, 401, DType::kFloat32, fixed},
                                        {2, 5700, DType::kFloat32, fixed},
                                        {5, 90, DType::kFloat32, fixed}}, 2});
    }
    all.push_back({"mixed", kSGDP, {1e-2, 0.1, true}, {{30, 301, kHalf}, {16, 16}, {30, 401},
                   {1, 100, kDouble, kOff}, {2, 2900, kDouble}, {20, 290, kBrain, kLayer}}, 4});
    all.push_back({"misaligned", kAdamP, {}, {{30, 401, DType::kFloat32, kAuto, 1, 1},
                   {9, 33, DType::kFloat32, kAuto, 3, 3}, {2, 5701, kBrain, kAuto, 5, 5},
                   {40, 150, DType::kFloat32, kAuto, 0, 1}, {7, 9, kHalf, kAuto, 1, 0}}, 3});
    all.push_back({"no_gradient", kAdamP, {}, {{30, 401, DType::kFloat32, kAuto, 0, 0, 1},
                   {8, 8, DType::kFloat32, kAuto, 0, 0, 0}, {2, 5700, DType::kFloat32, kAuto, 0, 0, 2},
                   {4, 0}, {0, 5}, {20, 20}}, 4});
    // More values than travel in the launch.
    std::vector<TensorSpec> tiny(120, TensorSpec{2, 3});
    tiny[7] = {40, 150};
    all.push_back({"staged_values", kSGDP, {}, tiny, 3, true});
#if defined(EMULATION_FLOAT_ONLY)
    const auto other = [](const TensorSpec& t) { return t.dtype != DType::kFloat32; };
    all.erase(std::remove_if(all.begin(), all.end(), [&](const Case& c) {
                return std::any_of(c.tensors.begin(), c.tensors.end(), other);
              }), all.end());
#endif
    return all;
  };
  static const std::vector<Case> value = make();
  return value;
}

}  // namespace emulation
