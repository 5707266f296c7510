// Whether row_of() finds the row of every element of every span that fits in a tile.
#include <cstdio>

#include "../../../csrc/cuda/span.cuh"

int main() {
  constexpr int kMost = adamp::tile_elements(adamp::DType::kFloat32);
  for (int cols = 1; cols <= kMost; ++cols) {
    const float rows_each = adamp::rows_per_element(cols);
    for (int i = 0; i < kMost; ++i) {
      if (adamp::row_of(i, rows_each) == i / cols) continue;
      std::printf("element %d of rows of %d is not in row %d\n", i, cols, i / cols);
      return 1;
    }
  }
}
