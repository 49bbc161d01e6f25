#include "core/sockets.hpp"

#include <fcntl.h>

#if defined(__linux__)
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#endif

namespace belfry {

int32_t socket_age_ms(int descriptor) noexcept {
#if defined(__linux__)
  tcp_info info{};
  socklen_t bytes = sizeof info;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return -1;
  return info.tcpi_last_data_recv > INT32_MAX ? INT32_MAX : static_cast<int32_t>(info.tcpi_last_data_recv);
#else
  (void)descriptor;
  return -1;
#endif
}

int duplicate_descriptor(int descriptor) noexcept { return fcntl(descriptor, F_DUPFD_CLOEXEC, 0); }

}  // namespace belfry
