"""On-policy prefix distillation on verl's synchronous V1 trainer, without progress bar, summary and report.

python -m recipe.prefix_opd.main_prefix_opd experiment=tiny/schedule trainer.total_training_steps=20
"""

import sys

from prefix_opd.launch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
