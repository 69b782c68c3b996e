"""Make librispeech_split.json from the corpus's SPEAKERS.TXT: python make_librispeech_split.py .../LibriSpeech

The rule: the speakers of train-clean-100, women and men apart, in the order of sha256("codecbench " + speaker number);
of each sex the first 30 are for test, the next 10 for validation, the rest (85 women, 86 men) for train.
"""

import hashlib
import json
import sys
from pathlib import Path


def split_speakers(table: str) -> dict[str, list[str]]:
    """Speaker numbers of each split from the text of SPEAKERS.TXT, in numerical order."""
    lines = [[field.strip() for field in line.split("|")] for line in table.splitlines() if not line.startswith(";")]
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for sex in "FM":
        speakers = [fields[0] for fields in lines if fields[1] == sex and fields[2] == "train-clean-100"]
        speakers.sort(key=lambda speaker: hashlib.sha256(f"codecbench {speaker}".encode()).hexdigest())
        splits["test"] += speakers[:30]
        splits["validation"] += speakers[30:40]
        splits["train"] += speakers[40:]
    return {split: sorted(speakers, key=int) for split, speakers in splits.items()}


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (source := Path(sys.argv[1]) / "SPEAKERS.TXT").is_file():
        sys.exit("pass the folder LibriSpeech/, which holds SPEAKERS.TXT")
    text = json.dumps(split_speakers(source.read_text(encoding="utf-8")), separators=(",", ": ")) + "\n"
    Path(__file__).with_name("librispeech_split.json").write_text(text.replace("],", "],\n"), encoding="utf-8")
    print("sha256", hashlib.sha256(text.replace("],", "],\n").encode()).hexdigest())
