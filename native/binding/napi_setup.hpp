#pragma once

// The one place that includes the Node-API.
#include <napi.h>
