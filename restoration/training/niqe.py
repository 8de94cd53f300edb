"""Fit NIQE's natural statistics: `python -m restoration.training.niqe SHARD… --out FILE.safetensors`."""

from __future__ import annotations

from safetensors.torch import save_file

from restoration.evaluation import metrics
from restoration.parser import parser as command_parser
from restoration.training import data


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.niqe") -> None:
    parser = command_parser(prog, __doc__, "photographs-*.tar --out niqe.safetensors")
    parser.add_argument("shards", nargs="+", help="tar archives of photographs")
    parser.add_argument("--out", required=True, help="safetensors file to write: mu (36,), cov (36,36)")
    parser.add_argument("--limit", type=int, default=600, help="photographs to use")
    args = parser.parse_args(argv)
    model = metrics.niqe_model()
    mu, cov = model.create_weights(
        [{"x": p.float() / 255} for p in data.load_photographs(args.shards, args.limit)]
    )
    save_file({"mu": mu.contiguous(), "cov": cov.contiguous()}, args.out)


if __name__ == "__main__":
    main()
