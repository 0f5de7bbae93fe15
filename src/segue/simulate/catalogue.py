"""The products of a simulated retailer, and the file that tells of them: a reference table for policies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from segue.errors import SettingsError, SinkError
from segue.simulate import lines as ln
from segue.simulate.mixing import pick
from segue.simulate.settings import SimulationSettings

Ints = NDArray[np.int64]

BRANDS = (
    "Alder", "Birch", "Cedar", "Elm", "Fern", "Hazel", "Juniper", "Larch", "Maple", "Oak", "Rowan", "Willow",
)  # fmt: skip
_STEP = "simulate shoppers"


class Catalogue:
    """Categories and prices (cents) of the products 0..products-1, and how a popular one is drawn."""

    def __init__(self, settings: SimulationSettings) -> None:
        rng = np.random.default_rng([settings.seed, 1])
        self.products = settings.products
        self.category: Ints = pick(np.arange(self.products), len(ln.CATEGORIES), settings.seed)
        # prices end in 9, as they do; integer arithmetic from here on
        self.price: Ints = rng.integers(1, 10, self.products) * 10 ** rng.integers(2, 4, self.products) + 9
        self._seed = settings.seed

    def table(self) -> pa.Table:
        """What a shop knows about them. `price` in major units, `margin` as a share of it."""
        number = np.arange(self.products)
        margin = 10 + pick(number, 51, self._seed + 6)
        return pa.table(
            {
                "product_id": [f"product-{n:05d}" for n in number.tolist()],
                "category": [ln.CATEGORIES[n] for n in self.category.tolist()],
                "brand": [BRANDS[n] for n in pick(number, len(BRANDS), self._seed + 7).tolist()],
                "price": self.price / 100,
                "margin": margin / 100,
            }
        )

    def popular(self, rng: np.random.Generator, size: int) -> Ints:
        """Low numbers sell best."""
        u = rng.random(size)
        return (self.products * (u * u)).astype(np.int64)


def write_catalogue(settings: SimulationSettings, path: str, *, overwrite: bool = False) -> None:
    """Write the products of these settings as CSV or Parquet, as the name ends. Raises SettingsError, SinkError."""
    kind = Path(path).suffix
    if kind not in (".csv", ".parquet"):
        raise SettingsError(_STEP, f'--catalogue: "{path}" is no .csv or .parquet', "end its name so")
    table = Catalogue(settings).table()
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb" if overwrite else "xb") as file:
            if kind == ".csv":
                from pyarrow import csv

                csv.write_csv(table, file)
            else:
                from pyarrow import parquet

                parquet.write_table(table, file)
    except FileExistsError as error:
        raise SinkError(
            _STEP, f'"{path}" exists already', "choose another file, or give --overwrite"
        ) from error
    except OSError as error:
        raise SinkError(
            _STEP, f'"{path}" can\'t be written: {error.strerror}', "check the path and the disk"
        ) from error
