"""`benchmarks.gpu.native`, polling for finished rollouts as often as ours does."""

import benchmarks.gpu.native
import benchmarks.poll  # noqa: F401
