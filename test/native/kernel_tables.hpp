#pragma once

#include <vector>

#include "amx_emulated.hpp"
#include "check.hpp"
#include "kernels/cpu.hpp"

namespace belfry::test {

// The levels that this CPU has; where threads are watched only the fastest.
inline std::vector<const KernelTable*> own_tables() {
  std::vector<const KernelTable*> tables = available_kernels();
  if (kThreadsWatched) tables.resize(1);
  return tables;
}

// And that for AMX, emulated.
inline std::vector<const KernelTable*> all_tables() {
  std::vector<const KernelTable*> tables = own_tables();
  if (!kThreadsWatched) tables.push_back(&kernels::amx_emulated::table());
  return tables;
}

}  // namespace belfry::test
