"""``ablate schema``: what is in the files that others read."""

from ablate_kit.cli.output import print_json


def schema() -> None:
    """Print the JSON schema of results.json (eval, score, sweep, demo)."""
    from ablate_kit.reports.results_schema import schema as of_results

    print_json(of_results())
