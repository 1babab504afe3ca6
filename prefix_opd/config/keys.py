"""Config keys that several rooms read."""

STUDENT_KEY = "actor_rollout_ref.model.path"
TEACHER_KEY = "distillation.teacher_models.teacher_model.model_path"
TEMPLATE_KEY = "actor_rollout_ref.model.custom_chat_template"
"""The user's chat template, which replaces the student's own. A forced ending is added to it."""
TRAIN_KEY = "data.train_files"
VAL_KEY = "data.val_files"
