"""UVFITS: the M87 files, eht-imaging's numbers on them, the round trip, and broken files."""

import contextlib
import dataclasses
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv import operators
from sciinv.errors import DataError
from sciinv.operators.parts.closure_sets import closure_set
from sciinv.quantities.ringfit import ring_parameters
from sciinv.readers import uvfits
from sciinv.readers.parts import vlbi

pytest.importorskip("astropy", reason="UVFITS needs the extra eht (astropy)")
from astropy.io import fits

DATA = Path(__file__).parents[2] / "data" / "eht"
DAYS = ("095_lo", "095_hi", "096_lo", "101_lo")


def m87(day: str) -> Path:
    return DATA / f"SR1_M87_2017_{day}_hops_netcal_StokesI.uvfits"


@pytest.fixture(scope="module")
def ehtim():
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return pytest.importorskip("ehtim", reason="eht-imaging (GPL peer) is not installed")


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


@pytest.fixture(scope="module")
def peer(ehtim):
    return quietly(ehtim.obsdata.load_uvfits, str(m87("101_lo")), polrep="stokes")


# ---------------------------------------------------------------- the real files


@pytest.mark.parametrize(
    ("day", "points", "scans", "averages", "phases"),
    [
        ("095_lo", 6453, 18, 168, 74),
        ("095_hi", 6458, 18, 168, 74),
        ("096_lo", 8645, 25, 274, 93),
        ("101_lo", 7447, 22, 216, 70),
    ],
)
def test_m87_files_have_their_published_sizes(day, points, scans, averages, phases):
    """eht-imaging counts the same, but 72 phases on 5 April: it pairs visibilities of equal start
    time, and in one scan a station begins later than the others."""
    table = uvfits.read_table(m87(day))
    mean = table.average_scans()
    assert (len(table), int(table.scans().max()) + 1, len(mean)) == (points, scans, averages)
    assert table.dropped == {}
    names = set(np.array(table.stations)[np.append(table.station1, table.station2)])
    assert names == {"AA", "AP", "AZ", "JC", "LM", "PV", "SM"}
    ds = uvfits.read(m87(day), count="reference", snr_min=0)
    assert ds.sizes["triangle"] == phases


def test_a_minimal_set_is_as_large_as_the_cycles_of_the_array_allow():
    table = uvfits.read_table(m87("101_lo")).average_scans()
    table = table.select(table.uv_distance > 1e8)
    scan = table.scans()
    found = closure_set(table.station1, table.station2, scan, 1 / table.snr)
    for s in range(scan.max() + 1):
        rows = scan == s
        n = len(np.unique([table.station1[rows], table.station2[rows]]))
        independent = rows.sum() - n + 1  # cycles of a connected graph
        assert (found.triangle_groups == s).sum() <= independent
    all_ = closure_set(table.station1, table.station2, scan, 1 / table.snr, "maximal")
    design = np.zeros((len(all_.triangles), len(table)))
    np.add.at(design, (np.arange(len(design))[:, None], all_.triangles), all_.triangle_signs)
    assert np.linalg.matrix_rank(design) == len(found.triangles)


def test_dataset_builds_its_operator():
    ds = uvfits.read(m87("101_lo"), systematic_noise=0.02)
    arrays = {k: ds[k].values for k in ds.data_vars if k != "y"}
    physics = operators.load(ds.attrs["operator"], **arrays, **json.loads(ds.attrs["params"]))
    assert physics.measurement_spec.shape == ds.y.shape[1:]
    ds = uvfits.read(m87("101_lo"), kind="visibilities")
    arrays = {k: ds[k].values for k in ds.data_vars if k != "y"}
    physics = operators.load(ds.attrs["operator"], **arrays, **json.loads(ds.attrs["params"]))
    assert physics.measurement_spec.shape == ds.y.shape[1:]


@pytest.mark.parametrize("kind", ["closures", "amplitudes", "visibilities"])
def test_dataset_goes_through_a_store_to_its_operator(kind, tmp_path):
    from sciinv import store
    from sciinv.operators.from_store import from_measurement

    ds = uvfits.read(m87("101_lo"), kind=kind, systematic_noise=0.02)
    store.write_measurement(ds, tmp_path / "m87.zarr")
    back = store.open_measurement(tmp_path / "m87.zarr")
    physics, y = from_measurement(back, dtype=torch.float64)
    direct, _ = from_measurement(ds, dtype=torch.float64)
    np.testing.assert_array_equal(y.numpy(), ds.y.values)
    x = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(physics.A(x), direct.A(x), rtol=0, atol=0)
    single, y32 = from_measurement(back)
    # u, v of 8 Gλ in float32 turn phases by 1e-6
    assert float((single.A(x.float()) - physics.A(x)).abs().max()) < 1e-2
    assert y32.dtype == torch.float32


def test_the_gains_of_each_station_and_scan_can_be_unknown_from_a_file():
    from sciinv.operators.from_store import from_measurement

    files = [m87("095_lo"), m87("095_hi")]
    ds = uvfits.read(files, kind="visibilities")
    physics, _ = from_measurement(ds, unknowns={"gain_log_amplitude": 0.2, "gain_phase": 0.5})
    scan, ends = ds["scans"].values, ds["stations"].values
    seen = sum(len(np.unique(ends[scan == number])) for number in np.unique(scan))
    size = {u.name: u.size for u in physics.unknowns}
    assert size == {"gain_log_amplitude": seen, "gain_phase": seen - len(np.unique(scan))}
    # each file, here a band, has gains of its own, and no scan holds two times
    assert all(np.ptp(ds["time"].values[scan == number]) == 0 for number in np.unique(scan))
    each = [uvfits.read(f, kind="visibilities")["scans"].values for f in files]
    assert len(np.unique(scan)) == sum(len(np.unique(one)) for one in each)
    x = torch.rand(1, 1, 64, 64)
    zero = torch.zeros(1, sum(size.values()))
    torch.testing.assert_close(physics.at(zero).A(x), physics.A(x))


@pytest.mark.parametrize("kind", ["closures", "amplitudes"])
def test_chi2_of_a_simulated_ring_on_m87_coverage_is_one(kind, tmp_path):
    """Through a UVFITS file: M87's coverage and noise, station gains, a crescent of 0.6 Jy."""
    table = uvfits.read_table(m87("101_lo"))
    axis = -(np.arange(64) - 31.5) * 2.0
    dec, ra = np.meshgrid(axis, axis, indexing="ij")
    section = np.exp(-0.5 * ((np.hypot(ra, dec) - 21) / 4) ** 2)
    image = section * (1 + 0.6 * np.cos(np.arctan2(ra, dec) - np.pi))
    image /= image.sum()
    x = torch.as_tensor(image)[None, None]
    sky = operators.load("visibilities", u=table.u, v=table.v, noise_sd=table.sigma,
                         flux_unit_jy=0.6)  # fmt: skip
    model = sky.A(x).numpy()[0]
    rng = np.random.default_rng(0)
    values = []
    for i in range(4):
        data = vlbi.simulate(table, model[0] + 1j * model[1], rng, gain_sd=0.1, random_phases=True)
        path = tmp_path / f"{i}.uvfits"
        uvfits.write(path, data)
        ds = uvfits.read(path, kind=kind)
        arrays = {k: ds[k].values for k in ds.data_vars if k != "y"}
        physics = operators.load("closures", **arrays, **json.loads(ds.attrs["params"]))
        values.append(float(physics.chi2(x, torch.as_tensor(ds.y.values))["reduced"]))
        wrong = float(physics.chi2(x.flip(2), torch.as_tensor(ds.y.values))["reduced"])
        assert wrong > 20
    # 4 × about 170 squared normals: 5 %; scan averages smear and the SNR cut selects a little
    assert np.mean(values) == pytest.approx(1, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("day", DAYS)
def test_maximum_entropy_sees_the_ring_of_m87(day):
    """No ring is put in: a Gaussian of 50 µas is the image it departs from. Published for these
    days: 42 ± 3 µas, brightest in the south, depression 10:1 or more (EHT paper I)."""
    ds = uvfits.read(m87(day), kind="amplitudes", systematic_noise=0.02,
                     gain_sd={"*": 0.1, "LM": 0.35})  # fmt: skip
    arrays = {k: ds[k].values for k in ds.data_vars if k != "y"}
    physics = operators.load("closures", **arrays, **json.loads(ds.attrs["params"]))
    y = torch.as_tensor(ds.y.values)
    image = physics.classical(y)["maximum entropy"]
    assert float(physics.chi2(image, y)["reduced"]) < 1.2
    found = ring_parameters(image, 2.0)
    assert found.diameter.item() == pytest.approx(42, abs=3)
    assert found.depression.item() > 10
    assert 90 < found.position_angle.item() < 225


def test_several_days_are_one_measurement():
    one = [uvfits.read(m87(d)) for d in DAYS]
    both = uvfits.read([m87(d) for d in DAYS])
    assert both.sizes["triangle"] == sum(d.sizes["triangle"] for d in one)
    assert both.sizes["quadrangle"] == sum(d.sizes["quadrangle"] for d in one)
    assert both.sizes["closure"] == both.sizes["triangle"] + both.sizes["quadrangle"] + 1
    t = one[0].sizes["triangle"]
    np.testing.assert_array_equal(both.y.values[0, :t], one[0].y.values[0, :t])


def test_a_ring_of_42_uas_bright_in_the_south_fits_m87_better_than_any_disc_or_gaussian():
    ds = uvfits.read(m87("101_lo"), systematic_noise=0.02)
    arrays = {k: ds[k].values for k in ds.data_vars if k != "y"}
    physics = operators.load("closures", **arrays, **json.loads(ds.attrs["params"]))
    y = torch.as_tensor(ds.y.values)
    dec, ra = np.meshgrid(physics.image_spec.y, physics.image_spec.x, indexing="ij")
    r, angle = np.hypot(ra, dec), np.arctan2(ra, dec)  # east of north

    def chi2(image):
        x = torch.as_tensor(image / image.sum())[None, None]
        return float(physics.chi2(x, y)["reduced"])

    def ring(diameter, towards):
        section = np.exp(-0.5 * ((r - diameter / 2) / (10 / 2.355)) ** 2)
        return section * (1 + 0.5 * np.cos(angle - np.radians(towards)))

    sizes = np.arange(20, 72, 2)
    rings = [chi2(ring(d, 180)) for d in sizes]
    assert 39 <= sizes[np.argmin(rings)] <= 45  # EHT paper I: 42 ± 3 µas
    assert min(chi2(ring(42, pa)) for pa in (0, 90, 270)) > 2 * chi2(ring(42, 180))
    others = [chi2((r < d / 2) * 1.0) for d in sizes]
    others += [chi2(np.exp(-0.5 * (r / (d / 2.355)) ** 2)) for d in sizes]
    assert min(others) > 10 * min(rings)


# ---------------------------------------------------------------- eht-imaging on the same file


def test_visibilities_agree_with_ehtim(peer):
    ours, theirs = uvfits.read_table(m87("101_lo")), peer.data
    names = np.array(ours.stations)
    mine = {
        (round(t * 3600), names[a], names[b]): i
        for i, (t, a, b) in enumerate(zip(ours.time, ours.station1, ours.station2, strict=True))
    }
    row = np.array([mine[round(float(d["time"]) * 3600), d["t1"], d["t2"]] for d in theirs])
    assert len(np.unique(row)) == len(theirs) == len(ours)
    # float32 in the file
    np.testing.assert_allclose(ours.vis[row], theirs["vis"], rtol=1e-6)
    np.testing.assert_allclose(ours.sigma[row], theirs["sigma"], rtol=1e-6)
    np.testing.assert_allclose(ours.u[row], theirs["u"], rtol=1e-6)
    np.testing.assert_allclose(ours.v[row], theirs["v"], rtol=1e-6)


def test_scan_averages_and_closures_agree_with_ehtim(peer):
    obs = peer.copy()
    obs.add_scans()
    obs = quietly(obs.avg_coherent, 0, scan_avg=True)
    table = uvfits.read_table(m87("101_lo")).average_scans(weighted=False)
    names, scan = np.array(table.stations), table.scans()
    found = closure_set(table.station1, table.station2, scan, 1 / table.snr, "maximal")
    start = np.array([s[0] for s in _scan_starts(peer)])

    def scan_of(time):
        return int(np.searchsorted(start, time + 1e-6, side="right")) - 1

    error = found.cholesky(1 / table.snr, 1.0)
    phases = found.phases(table.vis)
    sd = np.sqrt((np.abs(1 / table.snr[found.triangles]) ** 2).sum(1))
    key = {
        (int(g), frozenset(names[s])): i
        for i, (g, s) in enumerate(zip(found.triangle_groups, found.triangle_stations, strict=True))
    }
    theirs = quietly(obs.c_phases, count="max", ang_unit="rad")
    assert len(theirs) == len(key) == 257
    for row in theirs:
        i = key[scan_of(row["time"]), frozenset((row["t1"], row["t2"], row["t3"]))]
        same = _even(names[found.triangle_stations[i]], (row["t1"], row["t2"], row["t3"]))
        difference = np.exp(1j * (phases[i] - (1 if same else -1) * row["cphase"]))
        assert abs(np.angle(difference)) < 1e-6
        assert sd[i] == pytest.approx(row["sigmacp"], rel=1e-6)

    logs = found.log_amplitudes(table.vis)
    log_sd = np.sqrt((table.snr[found.quadrangles] ** -2.0).sum(1))
    pairs = {}
    for i, (g, s) in enumerate(
        zip(found.quadrangle_groups, names[found.quadrangle_stations], strict=True)
    ):
        over = frozenset((frozenset(s[:2]), frozenset(s[2:])))
        under = frozenset((frozenset(s[::2]), frozenset(s[1::2])))
        pairs[int(g), over, under], pairs[int(g), under, over] = (i, 1), (i, -1)
    theirs = quietly(obs.c_amplitudes, count="min", ctype="logcamp", debias=False)
    assert len(theirs) == 113
    for row in theirs:  # their convention is (12)(34) over (14)(23)
        s = [row[f"t{k}"] for k in (1, 2, 3, 4)]
        over = frozenset((frozenset((s[0], s[1])), frozenset((s[2], s[3]))))
        under = frozenset((frozenset((s[0], s[3])), frozenset((s[1], s[2]))))
        i, sign = pairs[scan_of(row["time"]), over, under]
        assert sign * logs[i] == pytest.approx(row["camp"], abs=1e-6)
        assert log_sd[i] == pytest.approx(row["sigmaca"], rel=1e-6)
    assert error.shape[0] == len(phases) + len(logs) + 1


def _scan_starts(obs):
    copy = obs.copy()
    copy.add_scans()
    return copy.scans


def _even(a, b):
    """Whether triangle b runs around in the same sense as a."""
    i = list(a).index(b[0])
    return a[(i + 1) % 3] == b[1]


def test_chi2_agrees_with_ehtim_on_an_image(ehtim, peer):
    from ehtim.imaging import imager_utils

    obs = peer.copy()
    obs.add_scans()
    obs = quietly(obs.avg_coherent, 0, scan_avg=True)
    table = uvfits.read_table(m87("101_lo")).average_scans(weighted=False)
    n, fov = 32, 100.0
    rng = np.random.default_rng(3)
    image = rng.random((n, n)) * np.hypot(*np.meshgrid(*(np.linspace(-1, 1, n),) * 2))
    image *= 0.6 / image.sum()
    grid = {"image_size": n, "field_of_view_uas": fov, "pixel": "triangle"}  # as ehtim has it
    peer_image = ehtim.image.Image(image, fov / n * ehtim.RADPERUAS, obs.ra, obs.dec, obs.rf)
    found = closure_set(table.station1, table.station2, table.scans(), 1 / table.snr, "maximal")
    sd = [
        np.sqrt((table.snr[legs] ** -2.0).sum(1)) for legs in (found.triangles, found.quadrangles)
    ]
    closures = operators.load(
        "closures", u=table.u, v=table.v, triangles=found.triangles,
        triangle_signs=found.triangle_signs, quadrangles=found.quadrangles,
        cholesky=np.diag(np.concatenate([*sd, [1.0]])), **grid,
    )  # fmt: skip
    x = torch.as_tensor(image)[None, None]
    y = torch.as_tensor(
        np.concatenate([found.phases(table.vis), found.log_amplitudes(table.vis), [0.6]])
    )[None]
    ours = closures.chi2(x, y)
    for name, quantity, extra in (
        ("closure phase", "cphase", {}),
        ("log closure amplitude", "logcamp", {"debias": False}),
    ):
        setup = getattr(imager_utils, f"chisqdata_{quantity}")
        data, sigma, matrices = quietly(setup, obs, peer_image, [], maxset=True, **extra)
        theirs = getattr(imager_utils, f"chisq_{quantity}")(image.flatten(), matrices, data, sigma)
        assert float(ours[name]) == pytest.approx(theirs, rel=1e-6)

    physics = operators.load("visibilities", u=table.u, v=table.v, noise_sd=table.sigma, **grid)
    model = physics.A(x).numpy()[0]
    ours = (np.abs(model[0] + 1j * model[1] - table.vis) ** 2 / table.sigma**2).mean() / 2
    data, sigma, matrices = quietly(imager_utils.chisqdata_vis, obs, peer_image, [])
    theirs = imager_utils.chisq_vis(image.flatten(), matrices, data, sigma)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_ehtim_reads_what_we_write(ehtim, tmp_path):
    table = uvfits.read_table(m87("101_lo")).average_scans()
    uvfits.write(tmp_path / "copy.uvfits", table)
    obs = quietly(ehtim.obsdata.load_uvfits, str(tmp_path / "copy.uvfits"), polrep="stokes")
    assert len(obs.data) == len(table)
    assert (obs.source, int(obs.mjd)) == ("M87", table.mjd)
    np.testing.assert_allclose(np.sort(obs.data["sigma"]), np.sort(table.sigma), rtol=1e-6)
    np.testing.assert_allclose(np.sort(np.abs(obs.data["vis"])), np.sort(np.abs(table.vis)), 1e-6)


# ---------------------------------------------------------------- averages, noise, round trip


def test_round_trip_keeps_every_value_to_float32(tmp_path):
    table = uvfits.read_table(m87("095_lo"))
    uvfits.write(tmp_path / "copy.uvfits", table)
    back = uvfits.read_table(tmp_path / "copy.uvfits")
    for name in ("station1", "station2"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    for name in ("u", "v", "vis", "sigma", "integration"):
        np.testing.assert_allclose(getattr(back, name), getattr(table, name), rtol=3e-7)
    np.testing.assert_allclose(back.time, table.time, atol=1e-3 / 3600)  # 1 ms
    np.testing.assert_allclose(back.positions, table.positions)
    assert (back.source, back.mjd, back.stations) == (table.source, table.mjd, table.stations)
    assert (back.frequency, back.bandwidth) == (table.frequency, table.bandwidth)


def small(n_scans=3, stations=4, per_scan=5) -> vlbi.VisibilityTable:
    rng = np.random.default_rng(0)
    pairs = np.array([(i, j) for i in range(stations) for j in range(i + 1, stations)])
    times = [0.5 * s + k * 10 / 3600 for s in range(n_scans) for k in range(per_scan)]
    n = len(times) * len(pairs)
    a, b = np.tile(pairs, (len(times), 1)).T
    place = rng.normal(0, 4e9, (stations, 2))
    uv = place[a] - place[b]
    return vlbi.VisibilityTable(
        time=np.repeat(times, len(pairs)), station1=a, station2=b, u=uv[:, 0], v=uv[:, 1],
        vis=np.full(n, 1.0 + 0.5j), sigma=rng.uniform(0.01, 0.02, n), integration=np.full(n, 10.0),
        stations=tuple(f"S{i}" for i in range(stations)), positions=np.zeros((stations, 3)),
        frequency=230e9, bandwidth=2e9, source="TEST", ra=10.0, dec=-5.0, mjd=58000,
    )  # fmt: skip


def test_scan_average_is_the_weighted_mean_and_its_error_the_right_one():
    table = small()
    rng = np.random.default_rng(1)
    draws = np.array(
        [vlbi.simulate(table, table.vis, rng).average_scans().vis[0] for _ in range(2000)]
    )
    mean = table.average_scans()
    assert len(mean) == 3 * 6
    assert mean.integration[0] == 50
    w = table.sigma[:30:6] ** -2.0
    assert mean.sigma[0] == pytest.approx(w.sum() ** -0.5, rel=1e-12)
    # standard error of an sd over 4,000 numbers: 1.1 %
    assert np.std(draws.view(float)) == pytest.approx(
        np.hypot(mean.sigma[0], np.std([1.0, 0.5])), rel=0.04
    )
    assert np.mean(draws) == pytest.approx(1 + 0.5j, abs=4 * mean.sigma[0] / np.sqrt(1000))


def test_systematic_noise_adds_in_quadrature():
    table = small().with_systematic_noise(0.02)
    expected = np.hypot(small().sigma, 0.02 * np.hypot(1, 0.5))
    np.testing.assert_allclose(table.sigma, expected)


def test_closures_do_not_see_station_gains():
    table = small()
    mean = table.average_scans()
    found = closure_set(mean.station1, mean.station2, mean.scans(), 1 / mean.snr)
    model = np.exp(1j * table.u / 3e9) * np.exp(-((table.v / 6e9) ** 2)) + 0.3
    rng = np.random.default_rng(2)
    plain = vlbi.simulate(table, model, rng, noise=False).average_scans()
    with_gains = vlbi.simulate(
        table, model, rng, gain_sd=0.5, random_phases=True, noise=False
    ).average_scans()
    assert np.abs(plain.vis - with_gains.vis).max() > 0.1
    turn = np.exp(1j * (found.phases(plain.vis) - found.phases(with_gains.vis)))
    np.testing.assert_allclose(turn, 1, atol=1e-12)
    np.testing.assert_allclose(
        found.log_amplitudes(plain.vis), found.log_amplitudes(with_gains.vis), atol=1e-12
    )


@pytest.mark.parametrize("snr", [5.0, 15.0])
def test_first_order_covariance_is_that_of_simulated_noise(snr):
    """Sharing baselines: the whitened residuals have unit covariance. First order is exact to
    O(1/SNR²), 4 % in variance at 5."""
    table = small(n_scans=1, stations=5, per_scan=1)
    table = dataclasses.replace(table, sigma=np.full(len(table), abs(1 + 0.5j) / snr))
    found = closure_set(table.station1, table.station2, table.scans(), 1 / table.snr)
    factor = found.cholesky(1 / table.snr, 0.1)
    assert (len(found.triangles), len(found.quadrangles)) == (6, 5)  # (N−1)(N−2)/2, N(N−3)/2
    rng = np.random.default_rng(5)
    truth = np.append(found.phases(table.vis), found.log_amplitudes(table.vis))
    residuals = []
    for _ in range(4000):
        vis = vlbi.simulate(table, table.vis, rng).vis
        r = np.append(found.phases(vis), found.log_amplitudes(vis)) - truth
        r[:6] = np.angle(np.exp(1j * r[:6]))
        residuals.append(np.linalg.solve(factor[:-1, :-1], r))
    covariance = np.cov(np.array(residuals).T)
    # entries have a standard error of √(2/4000) = 2.2 %; 4 of them, and the 1/SNR² above
    np.testing.assert_allclose(covariance, np.eye(11), atol=0.09 + 2 / snr**2)
    # no debiasing: E ln|1 + z| = 0 for circular z but for exp(−SNR²/2)
    assert np.abs(np.mean(residuals, 0)).max() < 4 / np.sqrt(4000) + np.exp(-(snr**2) / 2)


def test_maximal_and_minimal_sets_carry_the_same_information():
    """The likelihood of a minimal set does not depend on which one it is."""
    table = small(n_scans=1, stations=5, per_scan=1)
    model = np.exp(1j * table.u / 3e9)
    vis = vlbi.simulate(table, model, np.random.default_rng(1)).vis
    error = table.sigma / np.abs(model)
    values = []
    for order in (error, error[::-1], np.ones_like(error)):
        found = closure_set(table.station1, table.station2, table.scans(), order)
        factor = found.cholesky(error, 0.1)
        r = np.append(
            np.angle(np.exp(1j * (found.phases(vis) - found.phases(model)))),
            found.log_amplitudes(vis) - found.log_amplitudes(model),
        )
        values.append((np.linalg.solve(factor[:-1, :-1], r) ** 2).sum())
    np.testing.assert_allclose(values, values[0], rtol=1e-9)


# ---------------------------------------------------------------- files that are not as they should


def edited(tmp_path, edit):
    """Copy a small good file, with `edit(hdus)` done to it."""
    uvfits.write(tmp_path / "good.uvfits", small())
    if isinstance(edit, tuple):
        raw = (tmp_path / "good.uvfits").read_bytes()
        assert edit[0] in raw
        (tmp_path / "bad.uvfits").write_bytes(raw.replace(*edit))
        return tmp_path / "bad.uvfits"
    with fits.open(tmp_path / "good.uvfits", memmap=False) as hdus:
        hdus[0].data  # noqa: B018
        hdus = edit(hdus) or hdus
        hdus.writeto(tmp_path / "bad.uvfits")
    return tmp_path / "bad.uvfits"


def set_weights(value):
    def edit(hdus):
        hdus[0].data["DATA"][..., 2] = value

    return edit


def set_visibilities(value):
    def edit(hdus):
        hdus[0].data["DATA"][..., :2] = value

    return edit


def set_header(**values):
    def edit(hdus):
        hdus[0].header.update(values)

    return edit


def set_bytes(old, new):
    return old, new


def without(name):
    def edit(hdus):
        return fits.HDUList([h for h in hdus if h.name != name])

    return edit


def same_station(hdus):
    hdus[0].data["BASELINE"][:] = 257.0


def unknown_station(hdus):
    hdus[0].data["BASELINE"][:] = 256.0 + 9


def one_antenna(hdus):
    table = fits.BinTableHDU(hdus["AIPS AN"].data[:1], header=hdus["AIPS AN"].header)
    return fits.HDUList([hdus[0], table])


def image_only(hdus):
    return fits.HDUList([fits.PrimaryHDU(np.zeros((4, 4)))])


def future(hdus):
    hdus[0].header["PZERO5"] = 2457854.5


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (set_weights(0.0), "flagged"),
        (set_weights(-1.0), "flagged"),
        (set_weights(np.nan), "flagged"),
        (set_weights(np.inf), "flagged"),
        (set_visibilities(0.0), "exactly 0"),
        (set_visibilities(np.nan), "not a number"),
        (same_station, "autocorrelation"),
        (unknown_station, "does not list"),
        (one_antenna, "fewer than two stations"),
        (without("AIPS AN"), "no antenna table"),
        (image_only, "no random groups"),
        (set_header(CTYPE3="OTHER"), "no STOKES axis"),
        (set_header(CTYPE4="OTHER"), "no FREQ axis"),
        (set_header(CRVAL3=2.0), "polarisation"),
        (set_header(CRVAL4=0.0), "frequency"),
        (set_bytes(b"'UU---SIN'", b"'XX---SIN'"), "no UU coordinate"),
        (set_bytes(b"'DATE    '", b"'EPOCH   '"), "no time"),
        (future, "Julian"),
    ],
)
def test_a_bad_file_is_a_data_error_that_says_what_is_wrong(tmp_path, edit, words):
    path = edited(tmp_path, edit)
    with pytest.raises(DataError) as caught:
        uvfits.read_table(path)
    text = str(caught.value)
    assert words in text
    assert str(path) in text
    assert caught.value.remedy


@pytest.mark.parametrize("keep", [0, 1000, 3000, 0.5, 0.999])
def test_a_cut_off_file_is_a_data_error(tmp_path, keep):
    uvfits.write(tmp_path / "good.uvfits", small())
    raw = (tmp_path / "good.uvfits").read_bytes()
    size = keep if isinstance(keep, int) else int(len(raw) * keep)
    (tmp_path / "cut.uvfits").write_bytes(raw[:size])
    with pytest.raises(DataError) as caught:
        uvfits.read_table(tmp_path / "cut.uvfits")
    assert "cut.uvfits" in str(caught.value)


@pytest.mark.parametrize("content", [b"not a FITS file" * 500, b"SIMPLE  =" + b" " * 5000])
def test_something_else_is_a_data_error(tmp_path, content):
    (tmp_path / "x.uvfits").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as UVFITS"):
        uvfits.read_table(tmp_path / "x.uvfits")


def test_a_missing_file_is_a_data_error(tmp_path):
    for path in (tmp_path / "none.uvfits", tmp_path):
        with pytest.raises(DataError, match="not there"):
            uvfits.read_table(path)


def test_missing_astropy_names_the_extra(monkeypatch):
    import builtins

    real = builtins.__import__

    def no_astropy(name, *args, **kwargs):
        if name.startswith("astropy"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_astropy)
    with pytest.raises(DataError, match=r'pip install "sciinv\[eht\]"'):
        uvfits.read_table(m87("101_lo"))


def test_flagged_samples_are_left_out_and_counted(tmp_path):
    def edit(hdus):
        data = hdus[0].data["DATA"]
        data[0, ..., 2] = -1.0
        data[1, ..., 2] = np.nan
        data[2, ..., 0] = np.nan
        data[3, ..., :2] = 0.0
        hdus[0].data["BASELINE"][4] = 257.0

    table = uvfits.read_table(edited(tmp_path, edit))
    assert len(table) == len(small()) - 5
    assert sorted(table.dropped.values()) == [1, 1, 1, 2]


def test_one_hand_alone_stands_for_stokes_i(tmp_path):
    def edit(hdus):
        hdus[0].data["DATA"][:, 0, 0, 0, 0, 1, 2] = 0.0

    table, good = uvfits.read_table(edited(tmp_path, edit)), small()
    np.testing.assert_allclose(table.vis, good.vis, rtol=1e-6)
    np.testing.assert_allclose(table.sigma, np.sqrt(2) * good.sigma, rtol=1e-6)


def test_reversed_baselines_are_conjugated(tmp_path):
    def edit(hdus):
        groups = hdus[0].data
        code = groups["BASELINE"].astype(int)
        groups["BASELINE"][:] = 256 * (code % 256) + code // 256
        groups["DATA"][..., 1] *= -1
        for axis in ("UU---SIN", "VV---SIN"):
            groups[axis][:] = -groups[axis]

    table, good = uvfits.read_table(edited(tmp_path, edit)), small()
    np.testing.assert_allclose(table.vis, good.vis, rtol=1e-6)
    np.testing.assert_allclose(table.u, good.u, rtol=1e-6)


def test_writer_refuses_to_overwrite_and_to_write_nan(tmp_path):
    uvfits.write(tmp_path / "a.uvfits", small())
    with pytest.raises(DataError, match="there already"):
        uvfits.write(tmp_path / "a.uvfits", small())
    bad = dataclasses.replace(small(), sigma=np.full(len(small()), np.nan))
    with pytest.raises(DataError, match="cannot be written"):
        uvfits.write(tmp_path / "b.uvfits", bad)


def test_requests_that_cannot_be_met_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="of this kind"):
        uvfits.read(m87("101_lo"), kind="images")
    with pytest.raises(DataError, match="No baseline is left"):
        uvfits.read(m87("101_lo"), snr_min=1e9)
    with pytest.raises(DataError, match="station gains"):
        uvfits.read(m87("101_lo"), kind="amplitudes", gain_sd={"XX": 0.1, "*": 0.1})
    with pytest.raises(DataError, match="station gains"):
        uvfits.read(m87("101_lo"), kind="amplitudes", gain_sd={"LM": 0.1})
    with pytest.raises(DataError, match="closure set"):
        uvfits.read(m87("101_lo"), count="some")
    uvfits.write(tmp_path / "two.uvfits", small(stations=2))
    with pytest.raises(DataError, match="No closure phase"):
        uvfits.read(tmp_path / "two.uvfits")
    uvfits.write(tmp_path / "other.uvfits", dataclasses.replace(small(), source="SGRA"))
    with pytest.raises(DataError, match="different sources"):
        uvfits.read([tmp_path / "two.uvfits", tmp_path / "other.uvfits"], kind="visibilities")
    mean = small().average_scans()
    with pytest.raises(DataError, match="occurs twice"):
        closure_set(mean.station1, mean.station2, 0 * mean.scans(), 1 / mean.snr)
