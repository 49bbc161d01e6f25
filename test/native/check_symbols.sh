#!/bin/sh
# A weak symbol in a kernel object may replace the same function compiled for the baseline, and crash an older CPU. So a
# kernel object may export weak symbols in its own level's namespace only.
# usage: check_symbols.sh NM ARCHIVE
set -eu
nm=$1
archive=$2
found=0
for level in portable avx2 avxvnni avx512vnni amx crc32c_sse42; do
  listing=$("$nm" -C "$archive" 2>/dev/null | awk -v object="$level.cpp.o:" '$0 == object {on = 1; next} /:$/ {on = 0} on')
  [ -n "$listing" ] || continue
  found=$((found + 1))
  bad=$(printf '%s\n' "$listing" | grep -E '^[0-9a-f]+ [WVu] ' | grep -v "belfry::kernels::$level::" || true)
  if [ -n "$bad" ]; then
    echo "weak symbols outside belfry::kernels::$level in $level.cpp:"
    printf '%s\n' "$bad"
    exit 1
  fi
done
[ "$found" -ge 1 ] || { echo "no kernel object found in $archive"; exit 1; }
echo "$found kernel objects, no foreign weak symbols"
