"""Write the parts of a year's inspection: what was measured, and whether the part passed.

    python make_parts.py > parts.csv
    python make_parts.py --rows 20 --seed 7 > new_parts.csv

A part is a steel pin of 50 mm by 8 mm. It passes if its length and its diameter are within their
tolerances, its surface is smooth enough, and its weight is that of a pin without a cavity. What is
written was measured, with the errors of the instruments; the verdict is of what the part truly is.
"""

import argparse
import csv
import math
import random
import sys

COLUMNS = ("length_mm", "diameter_mm", "weight_g", "roughness_um")
GRAMS_PER_MM3 = 0.00785


def part(chance: random.Random) -> tuple[list[float], bool]:
    """Return the measurements of a part, in the order of COLUMNS, and whether it passes."""
    length = chance.gauss(50, 0.10)
    diameter = chance.gauss(8, 0.04)
    roughness = math.exp(chance.gauss(0, 0.4))
    # One part in five has a cavity somewhere inside.
    cavity = chance.expovariate(12) if chance.random() < 0.2 else 0.0
    solid = math.pi / 4 * diameter**2 * length * GRAMS_PER_MM3
    passes = (
        abs(length - 50) < 0.17 and abs(diameter - 8) < 0.07 and roughness < 1.8 and cavity < 0.03
    )
    weight = solid * (1 - cavity)
    measured = [
        chance.gauss(length, 0.005),
        chance.gauss(diameter, 0.002),
        chance.gauss(weight, 0.02),
        chance.gauss(roughness, 0.03),
    ]
    return measured, passes


def main() -> None:
    """Write the table to standard output."""
    parser = argparse.ArgumentParser(description="Write a table of inspected parts.")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*COLUMNS, "verdict"])
    for _ in range(arguments.rows):
        measured, passes = part(chance)
        writer.writerow([*(f"{value:.3f}" for value in measured), "pass" if passes else "fail"])


if __name__ == "__main__":
    main()
