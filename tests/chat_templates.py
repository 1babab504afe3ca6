"""Chat templates of the kinds that models bring, for the miniature's tokenizer."""

PLAIN = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}"
)
"""Without its last ``endif``."""
SWITCHED = PLAIN + (
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}{%- endif -%}"
)
"""Thinking is on by default, and the model opens it; off closes an empty thought: Qwen3's kind."""
OPEN = PLAIN + "{{- '<think>' -}}{%- endif -%}"
"""Always opens the thinking: the kind of models distilled from DeepSeek-R1."""
