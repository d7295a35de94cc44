"""What the command ``cathode jets evaluate`` does."""

from __future__ import annotations

from cathode.jets.commands.evaluate import EvaluateJets, evaluate_files, output_folder
from cathode.report.jets.verdict import summary_lines
from cathode.report.jets.write import check_folder, write_evaluation

__all__ = ["run_evaluate"]


def run_evaluate(command: EvaluateJets) -> list[str]:
    """Evaluate, write the folder, and return what there is to say.

    Raises:
        UserError: Unusable files, settings or output folder; nothing has been written then.
    """
    output = output_folder(command)
    check_folder(output, overwrite=command.overwrite)
    result = evaluate_files(command)
    write_evaluation(result, output, overwrite=command.overwrite)
    return [*summary_lines(result), f"report: {output / 'report.html'}"]
