// Constants of the CUDA kernels that only a clock can choose. Each is overridable by -D and has the
// measurement that decided it: device times of a float32 step on an H100, as a multiple of those
// with the default, of ResNet-50, ViT-B/16 and, where named, GPT-2 124M (docs/log.md has all).
// "Layer-wise" is a step that needs the fix-up pass for every matrix, "predicted" one that needs
// none.
#pragma once

// Consumer threads of a block for float32. One more warp prefetches the next tile.
// 288 and tiles of 4,608 elements: predicted 1.01 to 1.05, layer-wise 1.08 to 1.11. 352: predicted
// 1.01 to 1.03, layer-wise 1.04 to 1.06.
#ifndef ADAMP_CONSUMERS_FLOAT32
#define ADAMP_CONSUMERS_FLOAT32 384
#endif

// Consumer threads of a block for other types. AdamP's kernel for 16-bit types spills with 384.
#ifndef ADAMP_CONSUMERS
#define ADAMP_CONSUMERS 288
#endif

// Blocks per SM for which the compiler leaves registers.
// One block of 384 and tiles of 9,216 elements: 1.08 to 1.35. Three blocks of 192 and tiles of
// 4,608: 0.96 to 1.07.
#ifndef ADAMP_BLOCKS_PER_SM
#define ADAMP_BLOCKS_PER_SM 2
#endif

// Elements of a tile: four vectorized (128-bit) accesses of float32 for each of 384 consumers. Rows
// of 768, 1,024, 2,048 and 3,072 fill a tile, and a row of 5,632 is not split. p, g and u of a tile
// take 72 KiB of shared memory, so that two blocks fit on an SM of compute capability 8.0, 9.0 and
// 10.0, and one on the others. Measured with the number of consumers, above.
#ifndef ADAMP_TILE_ELEMENTS
#define ADAMP_TILE_ELEMENTS 6144
#endif
#ifndef ADAMP_TILE_ELEMENTS_FLOAT64
#define ADAMP_TILE_ELEMENTS_FLOAT64 3072
#endif

// Rows of a tile. Their sums are in shared memory beside p, g and u. Not varied so far.
#ifndef ADAMP_TILE_ROWS
#define ADAMP_TILE_ROWS 128
#endif
#ifndef ADAMP_TILE_ROWS_FLOAT64
#define ADAMP_TILE_ROWS_FLOAT64 64
#endif

// Rows of at most so many elements are thin: ADAMP_TILE_ROWS of them would leave most of a tile
// empty. Not varied so far.
#ifndef ADAMP_MAX_THIN_COLS
#define ADAMP_MAX_THIN_COLS 16
#endif

// Tiles of one entry of the work queue in the fix-up pass.
// 8: predicted 1.00 to 1.01, layer-wise 1.12 to 1.27. 2: 1.00 to 1.01 and 0.91 to 0.98.
#ifndef ADAMP_TILES_PER_FIXUP
#define ADAMP_TILES_PER_FIXUP 4
#endif

// How far a tensor's fix-up pass follows its last tile in the work queue, as a multiple of the
// blocks that run at a time.
// 1: layer-wise 1.21 to 1.47. 2: 1.03 to 1.13 (both with GPT-2). 4: 0.97 to 1.00.
#ifndef ADAMP_FIXUP_LAG
#define ADAMP_FIXUP_LAG 3
#endif

// The share of the next tile's arrays that is prefetched into L2, in eighths. For AdamP's four
// arrays 4 eighths are 10 MB for all blocks, of 50 MB of L2; for SGDP's three, 8 eighths are 14 MB.
// ResNet-50 and GPT-2, over whole tiles: AdamP none 0.99 and 0.97, 2 eighths 0.97 and 0.96, 3 0.96
// and 0.97, 4 0.95 and 0.96, 6 0.97 and 0.96; SGDP none 1.15 and 1.12, 4 1.06 and 1.06, 6 1.03 and
// 1.03.
#ifndef ADAMP_PREFETCH_EIGHTHS_ADAMP
#define ADAMP_PREFETCH_EIGHTHS_ADAMP 4
#endif
#ifndef ADAMP_PREFETCH_EIGHTHS_SGDP
#define ADAMP_PREFETCH_EIGHTHS_SGDP 8
#endif

// Bytes of step values that travel in the launch itself, which has 8 KB with them: enough for 640
// tensors.
// A launch with 12 KB takes the host up to 1 us longer than one with 8 KB, with cold caches 4 us; a
// launch with 4 KB about 1 us less.
#ifndef ADAMP_INLINE_CAPACITY
#define ADAMP_INLINE_CAPACITY 7936
#endif
