#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.hpp"

namespace belfry {

struct CpuInfo {
  std::string vendor;
  std::string model;
  std::vector<std::string> features;  // those that matter here, as /proc/cpuinfo names them
};

// What CPUID says.
const CpuInfo& cpu_info();

// The kernel tables that this CPU and operating system can run, best first; the portable one is always there. For AMX
// this asks the operating system for the tile state, once.
const std::vector<const KernelTable*>& available_kernels();

}  // namespace belfry
