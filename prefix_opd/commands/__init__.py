"""The verbs of ``prefix-opd``, one module each; each adds itself with ``register(app)``."""
