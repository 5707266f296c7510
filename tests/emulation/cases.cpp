#include "cases.h"

#include <algorithm>

#include "../../csrc/cuda/kernel_args.h"

namespace emulation {
namespace {

constexpr DType kFloat = DType::kFloat32, kDouble = DType::kFloat64, kBrain = DType::kBFloat16,
                kHalf = DType::kFloat16;
constexpr Projection kAuto = Projection::kAuto, kChannel = Projection::kChannel,
                     kLayer = Projection::kLayer, kOff = Projection::kOff;
constexpr Method kAdamP = Method::kAdamP, kSGDP = Method::kSGDP;

// The most elements of an item.
constexpr int64_t kTile = adamp::tile_elements(kFloat);

// Several items: whole rows, pieces of rows, more rows than an item may hold.
std::vector<TensorSpec> large() {
  return {{30, 401}, {2, kTile + 68}, {1, kTile + 369}, {2 * adamp::max_rows(kFloat) + 44, 3}};
}

void add_large(std::vector<Case>& all) {
  all.push_back({"few_large", kAdamP, {}, large(), 6, 4});
  all.push_back({"few_large_nesterov", kAdamP, {1e-2, 0.1, true, true}, large(), 6, 2});
  all.push_back({"few_large_sgdp", kSGDP, {}, large(), 6, 2});
  all.push_back({"few_large_paper", kSGDP, {1e-2, 0.1, false, true, false}, large(), 6, 2});
  // Finish tickets that cover several items, and more than one of them.
  const int64_t rows = (adamp::kItemsPerFinish + 2) * adamp::max_rows(kFloat) - 4;
  all.push_back({"many_items", kAdamP, {}, {{rows, 2}, {5, 7}}, 4, 6});
  // Shrinks to nothing: what has been done cannot be undone, so nothing is done early.
  all.push_back({"large_decay", kAdamP, {1e-2, 100}, large(), 3});
}

// One item each: tails of all lengths, rows shared by warps or the other way round.
void add_small(std::vector<Case>& all) {
  Case small = {"many_small", kAdamP, {}, {}, 3};
  for (int i = 0; i < 16; ++i) small.tensors.push_back({1 + i * 7 % 19, 1 + i * 13 % 37});
  small.tensors.push_back({1, 64, kFloat, kOff});
  small.tensors.push_back({13, 1});
  all.push_back(small);
  small.name = "many_small_sgdp";
  small.method = kSGDP;
  all.push_back(small);
}

void add_types(std::vector<Case>& all) {
  for (const DType dtype : {kDouble, kBrain, kHalf}) {
    const int64_t tile = adamp::tile_elements(dtype);
    const std::string name = dtype == kDouble  ? "float64"
                             : dtype == kBrain ? "bfloat16"
                                               : "float16";
    const std::vector<TensorSpec> tensors = {{2, tile + 9, dtype},
                                             {tile / 100, 211, dtype},
                                             {9, 31, dtype},
                                             {1, 77, dtype, kOff},
                                             {1, tile, dtype},
                                             {3, 50},
                                             {1, 2 * tile, dtype, kAuto, 1, 1}};
    all.push_back({name, kAdamP, {}, tensors, 4});
    all.push_back({name + "_sgdp", kSGDP, {}, tensors, 4});
  }
  const std::vector<TensorSpec> mixed = {{30, 301, kHalf},   {16, 16},
                                         {30, 401},          {1, 100, kDouble, kOff},
                                         {2, 2900, kDouble}, {20, 290, kBrain, kLayer}};
  all.push_back({"mixed", kSGDP, {1e-2, 0.1, true, false, true, true}, mixed, 4, 2});
}

void add_projections(std::vector<Case>& all) {
  for (const Projection fixed : {kChannel, kLayer, kOff}) {
    const std::string name = fixed == kChannel ? "channel" : fixed == kLayer ? "layer" : "off";
    const std::vector<TensorSpec> tensors = {
        {30, 401, kFloat, fixed}, {2, kTile + 68, kFloat, fixed}, {5, 90, kFloat, fixed}};
    all.push_back({name, kAdamP, {}, tensors, 2});
  }
}

// Off a boundary: alike, and each otherwise; a full tile that starts off a boundary.
void add_misaligned(std::vector<Case>& all) {
  const std::vector<TensorSpec> floats = {{30, 401, kFloat, kAuto, 1, 1},
                                          {9, 33, kFloat, kAuto, 3, 3},
                                          {40, 150, kFloat, kAuto, 0, 1},
                                          {2, 3, kFloat, kAuto, 3, 3},
                                          {1, 2 * kTile, kFloat, kAuto, 1, 1}};
  all.push_back({"misaligned", kAdamP, {}, floats, 3});
  const std::vector<TensorSpec> halves = {{2, kTile + 69, kBrain, kAuto, 5, 5},
                                          {7, 9, kHalf, kAuto, 1, 0},
                                          {30, 211, kHalf, kAuto, 7, 7}};
  all.push_back({"misaligned_half", kAdamP, {}, halves, 3});
}

void add_absent(std::vector<Case>& all) {
  const std::vector<TensorSpec> tensors = {{30, 401, kFloat, kAuto, 0, 0, 1},
                                           {8, 8, kFloat, kAuto, 0, 0, 0},
                                           {2, kTile + 68, kFloat, kAuto, 0, 0, 2},
                                           {4, 0},
                                           {0, 5},
                                           {20, 20}};
  all.push_back({"no_gradient", kAdamP, {}, tensors, 4});
}

// More values than travel in the launch.
void add_staged(std::vector<Case>& all) {
  const int64_t each = adamp::step_values_size(1, 1);
  std::vector<TensorSpec> tiny(adamp::kInlineCapacity / each + 10, TensorSpec{2, 3});
  tiny[7] = {40, 150};
  all.push_back({"staged_values", kSGDP, {}, tiny, 3, 1, true});
}

std::vector<Case> make() {
  std::vector<Case> all;
  for (const auto add :
       {add_large, add_small, add_types, add_projections, add_misaligned, add_absent, add_staged}) {
    add(all);
  }
#if defined(EMULATION_FLOAT_ONLY)
  const auto other = [](const TensorSpec& t) { return t.dtype != kFloat; };
  const auto has_other = [&](const Case& c) {
    return std::any_of(c.tensors.begin(), c.tensors.end(), other);
  };
  all.erase(std::remove_if(all.begin(), all.end(), has_other), all.end());
#endif
  return all;
}

}  // namespace

const std::vector<Case>& cases() {
  static const std::vector<Case> value = make();
  return value;
}

}  // namespace emulation
