"""The parser of every command: what the command does, its options with their defaults, an example."""

from __future__ import annotations

import argparse
import math


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Paragraphs as they are written, and the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if any(action.default is nothing for nothing in (None, False)) or action.default in ([], math.inf):
            return action.help
        return super()._get_help_string(action)


def parser(prog: str, description: str | None, example: str, more: str = "") -> argparse.ArgumentParser:
    """A parser whose help ends with `more` and an example: the arguments after the command's name."""
    epilog = f"example:\n  {prog} {example}"
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"{more}\n\n{epilog}" if more else epilog,
        formatter_class=_Help,
    )
