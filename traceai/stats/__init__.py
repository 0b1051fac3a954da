"""Rates, intervals, agreement and control charts: pure functions, results with named fields."""

from traceai.stats.agreement import Agreement, cohen_kappa, fleiss_kappa
from traceai.stats.charts import PChart, p_chart
from traceai.stats.proportions import Proportion, clopper_pearson, describe, percent, wilson, zero_failure_n
from traceai.stats.rates import Cell, Rates, Tally, estimate_rates
from traceai.stats.sampling import PopulationMean, horvitz_thompson
from traceai.stats.verification import BeggGreenes, begg_greenes, miss_rate

__all__ = [
    "Agreement",
    "BeggGreenes",
    "Cell",
    "PChart",
    "PopulationMean",
    "Proportion",
    "Rates",
    "Tally",
    "begg_greenes",
    "clopper_pearson",
    "cohen_kappa",
    "describe",
    "estimate_rates",
    "fleiss_kappa",
    "horvitz_thompson",
    "miss_rate",
    "p_chart",
    "percent",
    "wilson",
    "zero_failure_n",
]
