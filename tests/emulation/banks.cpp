// How many threads of a warp meet in one bank of the tile at worst, for each storage type; 1 where
// none do. Printed as "float32 bfloat16 float64".
#include <algorithm>
#include <cstdio>
#include <map>

#include "../../csrc/cuda/span.cuh"

namespace {

template <class Storage>
int worst() {
  using adamp::Span;
  constexpr int kWidth = Span<Storage>::kWidth;
  // Elements of float64 take two banks, and a warp two turns: half of it counts.
  constexpr bool kDouble = sizeof(typename adamp::Arithmetic<Storage>::Scalar) == 8;
  constexpr int kThreads = kDouble ? 16 : 32;
  int most = 0;
  for (int head = 0; head < kWidth; ++head) {
    Span<Storage> span = {};
    span.head = head;
    for (int first = head; first + kThreads * kWidth <= 2048; first += kThreads * kWidth) {
      for (int j = 0; j < kWidth; ++j) {
        std::map<int, int> threads_in;
        for (int t = 0; t < kThreads; ++t) {
          const int bank = span.tile_index(first + t * kWidth + j) % kThreads;
          most = std::max(most, ++threads_in[bank]);
        }
      }
    }
  }
  return most;
}

}  // namespace

int main() { std::printf("%d %d %d\n", worst<float>(), worst<adamp::BFloat16>(), worst<double>()); }
