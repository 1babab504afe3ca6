"""A decoder small enough to count by hand, and one of the paper's."""

from prefix_opd.method.flops import ModelShape

TOY_SIZES = dict(
    hidden_size=4,
    intermediate_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    vocab_size=10,
    head_dim=3,
)
TOY = ModelShape.from_config(TOY_SIZES)
"""416 parameters of matrices. Attention 4 * (2*6 + 2*3) = 72, mlp 3 * 4 * 8 = 96, two layers; embedding and head 40."""
