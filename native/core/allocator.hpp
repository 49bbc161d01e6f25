#pragma once

namespace belfry {

// For a process that loads one generation after the other: large blocks that are freed go back to the system at once.
// glibc otherwise raises its limits with the largest block that was freed, and each of its arenas (eight a core) then
// keeps up to 64 MB for later. Of the whole process, so a server calls it and a library does not. False where the
// allocator is another.
bool limit_kept_memory();

}  // namespace belfry
