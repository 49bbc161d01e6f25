#pragma once

#include <cstdint>

namespace belfry {

// Milliseconds since bytes last arrived on the TCP connection of this descriptor, whether they are read yet or not, by
// the ticks of the kernel (4 ms are common); -1 where the system does not say.
int32_t socket_age_ms(int descriptor) noexcept;

// Another descriptor of the same open file or socket, which a started process does not get; -1 when there is none left.
int duplicate_descriptor(int descriptor) noexcept;

}  // namespace belfry
