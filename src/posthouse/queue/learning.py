"""What couriers' reports teach of sites, and of the connections to them.

Promises: only memory changes here, and only of this process: sites (sites.py), and how many connections of its runs are
to give way. Refuses: to write down and to schedule.
"""

from collections.abc import Collection
from dataclasses import replace

from posthouse import observe
from posthouse.queue.outcome import Dooms, Report
from posthouse.queue.schedule import is_local
from posthouse.queue.settling import Settled
from posthouse.queue.sites import Sites
from posthouse.queue.work import Run


def soften(sites: Sites, run: Run, report: Report, now: int) -> tuple[Report, bool]:
    """Where a site takes mail, a connection that fails was one too many: the site is not down.

    This connection goes (True), and its recipients wait for themselves.
    """
    if not any(outcome.destination_down for outcome in report.outcomes):
        return report, False
    # Without a site it was not reached for want of a route.
    if report.site is None or not sites.find(report.site).crowded(now):
        return report, False
    sites.refused(report.site)
    outcomes = tuple(
        replace(one, dooms=Dooms.HOST) if one.destination_down and not one.given_up else one for one in report.outcomes
    )
    return replace(report, outcomes=outcomes, pushed_back=True), True


def learn(sites: Sites, runs: Collection[Run], run: Run, report: Report, settled: Settled, now: int) -> None:
    """What the peer's answers to this run's job tell of its site; `runs` are all that are at work."""
    destination = run.lease.destination
    if is_local(destination):
        return
    if report.site and report.site != run.site:
        sites.routed(destination, report.site)
        run.site = report.site
    if settled.down is not None:
        sites.backs_off(*settled.down)
        observe.tell("queue.backs_off", site=settled.down[0], failures=settled.down[1], until=settled.down[2])
    elif report.pushed_back:
        sites.pushed_back(run.site, now)
        _shrink(sites, runs, run.site)
    elif not settled.doomed and not all(outcome.given_up for outcome in report.outcomes):
        sites.lived(run.site, now)


def _shrink(sites: Sites, runs: Collection[Run], site: str) -> None:
    """As many connections give way as are too many now."""
    concerned = [run for run in runs if run.site == site]
    excess = sum(run.staying for run in concerned) - sites.find(site).connections
    for run in sorted(concerned, key=lambda one: -len(one.workers)):
        share = min(max(excess, 0), run.staying)
        run.yields += share
        excess -= share
