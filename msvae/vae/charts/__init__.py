"""A manifold as a mixture of charts, for topologies that a single chart of normal latents cannot represent."""

from msvae.vae.charts.charts import Charts
from msvae.vae.charts.fitting import fit_charts

__all__ = ["Charts", "fit_charts"]
