"""Every test runs on the CPU platform; nothing here may reach a hub."""

import os

from prefix_opd.cpu.environment import set_environment

set_environment()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
