#pragma once

#include "kernels/kernels.hpp"

namespace belfry::kernels::amx_emulated {
const KernelTable& table();
}
