#include "core/copy_rows.hpp"

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/exports.hpp"
#include "core/error.hpp"

namespace belfry::binding {

// (table, width, rows, out, stride, at, step)
Napi::Value copy_rows_of(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    RowCopy job;
    job.table = span_of(read_i32_array(call[0], "table"));
    job.width = read_integer(call[1], "width", 1, kRowsMax);
    job.rows = span_of(read_i32_array(call[2], "rows"));
    job.out = span_of(read_i32_array(call[3], "out"));
    job.stride = read_integer(call[4], "stride", 0, kRowsMax);
    job.at = read_integer(call[5], "at", 0, kRowsMax);
    job.step = read_integer(call[6], "step", 1, 2);
    if (!copy_rows(job)) throw invalid_argument("rows", "rows of the table, with room for them in out", "others");
    return call.Env().Undefined();
  });
}

}  // namespace belfry::binding
