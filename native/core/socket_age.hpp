#pragma once

#include <cstdint>

namespace belfry {

// Milliseconds since bytes last arrived on the TCP connection of this descriptor, whether they are read yet or not, by
// the ticks of the kernel (4 ms are common); -1 where the system does not say.
int32_t socket_age_ms(int descriptor) noexcept;

}  // namespace belfry
