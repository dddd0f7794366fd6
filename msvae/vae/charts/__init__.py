"""A manifold as a mixture of charts: where one chart of normal latents cannot have its shape."""

from msvae.vae.charts.charts import Charts
from msvae.vae.charts.fitting import fit_charts

__all__ = ["Charts", "fit_charts"]
