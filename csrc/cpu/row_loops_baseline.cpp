// The row loops for any CPU.
#define ADAMP_ROW_LOOPS row_loops_baseline
#include "row_loops_impl.h"
