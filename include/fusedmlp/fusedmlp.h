// Everything of the public C++ API.
#pragma once

#include "fusedmlp/analysis.h"
#include "fusedmlp/device.h"
#include "fusedmlp/packed.h"
#include "fusedmlp/plan.h"
#include "fusedmlp/report.h"
#include "fusedmlp/spec.h"
#include "fusedmlp/status.h"
#include "fusedmlp/weights.h"
