"use strict";
// One canvas for all maps and draws of a problem: value and interval under the cursor, a profile
// along a line. Images are unpacked here as sciinv/report/packed.py packed them.
(() => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  async function inflate(text) {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function unpack(part, rows, columns) {
    const raw = await inflate(part.data);
    const wide = part.bits === 16, size = rows * columns, mask = wide ? 65535 : 255;
    const out = new Float32Array(size);
    for (let r = 0, i = 0; r < rows; r++) {
      let whole = 0;
      for (let c = 0; c < columns; c++, i++) {
        whole = (whole + (wide ? raw[i] * 256 + raw[size + i] : raw[i])) & mask;
        out[i] = part.low + part.step * whole;
      }
    }
    return out;
  }

  function number(value) {
    if (!Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : value.toPrecision(3);
    return text.replace(/-/g, "−");
  }

  function ticks(low, high, count) {
    const span = high - low || 1, power = 10 ** Math.floor(Math.log10(span / count));
    const step = power * [1, 2, 5, 10].find((f) => f * power * count >= span);
    const out = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * span; k++) out.push(k * step);
    const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    return out.map((v) => [v, (Math.abs(v) < step / 1e3 ? 0 : v).toFixed(places).replace("-", "−")]);
  }

  async function start(root) {
    const d = JSON.parse(root.querySelector("script").textContent);
    const { rows, columns } = d, side = d.draws.side;
    const drawRows = Math.ceil(rows / side), drawColumns = Math.ceil(columns / side);
    const views = await Promise.all(d.views.map(async (v) => ({ ...v, values: await unpack(v, rows, columns) })));
    const draws = await Promise.all(d.draws.images.map((v) => unpack(v, drawRows, drawColumns)));
    const view = Object.fromEntries(views.map((v) => [v.key, v]));
    const [low, high] = d.interval.map((k) => view[k]);
    const colours = Object.fromEntries(Object.entries(d.colours).map(([k, v]) => [k, bytes(v)]));
    const order = [...views.map((v) => v.key), "draw", "above"];
    const $ = (name) => root.querySelector(name);
    const map = $("canvas.map"), profile = $("canvas.profile"), readout = $(".readout");
    const middle = Math.floor(rows / 2);
    let brightest = 0;
    view.mean.values.forEach((v, i) => { if (v > view.mean.values[brightest]) brightest = i; });
    const home = [brightest % columns, Math.floor(brightest / columns)];
    const s = { key: "mean", draw: 0, t: (d.limits[0] + d.limits[1]) / 2, held: home, at: home,
      line: "row", ends: [[0, middle], [columns - 1, middle]], drag: false };
    const power = d.units.startsWith("10");
    const units = d.units ? ` ${power ? "× " : ""}${d.units}` : "";
    const pair = (text) => (power ? `(${text})` : text) + units;
    let area = { x: 0, y: 0, w: 1, h: 1 };

    const ofDraw = (k, c, r) => draws[k][Math.floor(r / side) * drawColumns + Math.floor(c / side)];
    const above = (c, r) => draws.reduce((n, _, k) => n + (ofDraw(k, c, r) > s.t), 0) / draws.length;
    const kind = () => (s.key === "draw" ? "image" : s.key === "above" ? "share" : view[s.key].kind);
    const name = () => s.key === "draw" ? `Draw ${d.draws.numbers[s.draw]}` :
      s.key === "above" ? `P(x > ${number(s.t)}${units})` : view[s.key].name;
    const value = (c, r) => s.key === "draw" ? ofDraw(s.draw, c, r) :
      s.key === "above" ? above(c, r) : view[s.key].values[r * columns + c];
    function limits() {
      if (kind() === "share") return [0, 1];
      if (kind() === "image") return d.limits;
      return [0, view[s.key].values.reduce((a, b) => Math.max(a, b), 0) || 1];
    }
    const place = (axis, k, n) => axis.first + ((k + 0.5) / n) * (axis.last - axis.first);

    function paper(canvas, height) {
      const scale = window.devicePixelRatio || 1, width = canvas.clientWidth || 320;
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      const g = canvas.getContext("2d"), css = getComputedStyle(root);
      g.setTransform(scale, 0, 0, scale, 0, 0);
      const ink = css.getPropertyValue("--ink").trim(), soft = css.getPropertyValue("--soft").trim();
      g.fillStyle = css.getPropertyValue("--ground").trim();
      g.fillRect(0, 0, width, height);
      g.font = "12px system-ui, sans-serif";
      return { g, width, ink, soft, accent: css.getPropertyValue("--accent").trim() };
    }

    function paint() {
      const width = map.clientWidth || 320, narrow = width < 440;
      const left = narrow ? 46 : 58, right = narrow ? 62 : 76, top = 26, bottom = 42;
      const w = width - left - right;
      const ratio = Math.abs((d.y.last - d.y.first) / (d.x.last - d.x.first)) || rows / columns;
      const h = Math.min(w * ratio, 620), wide = h / ratio;
      area = { x: left, y: top, w: wide, h };
      const { g, ink, soft } = paper(map, h + top + bottom);
      const table = colours[kind()], [from, to] = limits();
      const still = document.createElement("canvas");
      still.width = columns; still.height = rows;
      const pixels = still.getContext("2d"), image = pixels.createImageData(columns, rows);
      for (let r = 0, i = 0; r < rows; r++) for (let c = 0; c < columns; c++, i++) {
        const k = 3 * Math.round(255 * Math.min(1, Math.max(0, (value(c, r) - from) / (to - from))));
        image.data[4 * i] = table[k]; image.data[4 * i + 1] = table[k + 1];
        image.data[4 * i + 2] = table[k + 2]; image.data[4 * i + 3] = 255;
      }
      pixels.putImageData(image, 0, 0);
      g.imageSmoothingEnabled = false;
      g.drawImage(still, left, top, wide, h);
      g.fillStyle = ink;
      g.font = "600 13px system-ui, sans-serif";
      const chi2 = s.key === "draw" && d.draws.chi2 ? `, reduced χ² ${number(d.draws.chi2[s.draw])}` : "";
      g.fillText(name() + chi2, left, 17);
      g.font = "12px system-ui, sans-serif";
      g.fillStyle = g.strokeStyle = soft;
      g.textAlign = "center";
      const span = (a) => [Math.min(a.first, a.last), Math.max(a.first, a.last)];
      for (const [v, text] of ticks(...span(d.x), narrow ? 4 : 6)) {
        const x = left + (wide * (v - d.x.first)) / (d.x.last - d.x.first);
        g.fillRect(x, top + h, 1, 4); g.fillText(text, x, top + h + 16);
      }
      g.fillText(`${d.x.name}, ${d.x.units}`, left + wide / 2, top + h + 34);
      g.textAlign = "right";
      for (const [v, text] of ticks(...span(d.y), 6)) {
        const y = top + (h * (v - d.y.first)) / (d.y.last - d.y.first);
        g.fillRect(left - 4, y, 4, 1); g.fillText(text, left - 7, y + 4);
      }
      g.save(); g.translate(12, top + h / 2); g.rotate(-Math.PI / 2); g.textAlign = "center";
      g.fillText(`${d.y.name}, ${d.y.units}`, 0, 0); g.restore();
      g.textAlign = "left";
      const bar = left + wide + 12, label = kind() === "share" ? "probability" : d.units || "value";
      for (let k = 0; k < h; k++) {
        const i = 3 * Math.round(255 * (1 - k / h));
        g.fillStyle = `rgb(${table[i]},${table[i + 1]},${table[i + 2]})`;
        g.fillRect(bar, top + k, 12, 1.5);
      }
      g.fillStyle = soft;
      for (const [v, text] of ticks(from, to, 5)) {
        const y = top + h * (1 - (v - from) / (to - from));
        g.fillRect(bar + 12, y, 4, 1); g.fillText(text, bar + 18, y + 4);
      }
      g.textAlign = "right"; g.fillText(label, map.clientWidth - 2, 17); g.textAlign = "left";
      overlay(g);
    }

    function ends() {
      const [c, r] = s.at;
      if (s.line === "row") return [[0, r], [columns - 1, r]];
      if (s.line === "column") return [[c, 0], [c, rows - 1]];
      return s.ends;
    }

    function overlay(g) {
      const X = (c) => area.x + ((c + 0.5) * area.w) / columns, Y = (r) => area.y + ((r + 0.5) * area.h) / rows;
      const [[a, b], [c, e]] = ends(), [x, y] = s.at;
      for (const [ink, width] of [["#000", 3], ["#fff", 1.2]]) {
        g.strokeStyle = ink; g.lineWidth = width;
        g.beginPath(); g.moveTo(X(a), Y(b)); g.lineTo(X(c), Y(e)); g.stroke();
        g.beginPath(); g.arc(X(x), Y(y), 6, 0, 7); g.stroke();
      }
    }

    function tell() {
      const [c, r] = s.at, i = r * columns + c;
      const share = `${number(100 * d.level).replace(/\.0$/, "")} %`;
      const lines = [
        `${d.x.name} ${number(place(d.x, c, columns))}, ${d.y.name} ${number(place(d.y, r, rows))} ${d.x.units}`,
        `mean ${pair(`${number(view.mean.values[i])} ± ${number(view.sd.values[i])}`)}`,
        `${share} from ${pair(`${number(low.values[i])} to ${number(high.values[i])}`)}`,
      ];
      if (!["mean", "sd", ...d.interval].includes(s.key)) lines.push(`${name()}: ${number(value(c, r))}${kind() === "share" ? "" : units}`);
      readout.replaceChildren();
      map.setAttribute("aria-label", `${name()}. ${lines.join("; ")}.`);
      lines.forEach((line, k) => {
        const part = document.createElement(k === 1 ? "b" : "span");
        part.textContent = line;
        part.style.display = "block";
        readout.append(part);
      });
    }

    function drawProfile() {
      const { g, width, ink, soft, accent } = paper(profile, 210);
      const [[a, b], [c, e]] = ends(), steps = Math.max(2, Math.round(Math.hypot(c - a, e - b)) + 1);
      const dx = (d.x.last - d.x.first) / columns, dy = (d.y.last - d.y.first) / rows;
      const length = Math.hypot((c - a) * dx, (e - b) * dy) || 1;
      const at = Array.from({ length: steps }, (_, k) => {
        const f = k / (steps - 1);
        return [Math.round(a + f * (c - a)), Math.round(b + f * (e - b))];
      });
      const along = (values) => at.map(([p, q]) => values[q * columns + p]);
      const L = along(low.values), H = along(high.values), M = along(view.mean.values);
      const extra = s.key === "draw" ? at.map(([p, q]) => ofDraw(s.draw, p, q)) :
        s.key !== "mean" && kind() === "image" && !d.interval.includes(s.key) ? along(view[s.key].values) : null;
      const all = [...L, ...H, ...M, ...(extra || [])];
      let from = Math.min(...all, 0), to = Math.max(...all);
      if (!(to > from)) to = from + 1;
      const box = { x: 46, y: 22, w: width - 56, h: 142 };
      const X = (k) => box.x + (box.w * k) / (steps - 1), Y = (v) => box.y + box.h * (1 - (v - from) / (to - from));
      g.fillStyle = accent; g.globalAlpha = 0.28;
      g.beginPath(); H.forEach((v, k) => g.lineTo(X(k), Y(v)));
      for (let k = steps - 1; k >= 0; k--) g.lineTo(X(k), Y(L[k]));
      g.fill(); g.globalAlpha = 1;
      const stroke = (values, colour, wide, dash) => {
        g.strokeStyle = colour; g.lineWidth = wide; g.setLineDash(dash);
        g.beginPath(); values.forEach((v, k) => g.lineTo(X(k), Y(v))); g.stroke(); g.setLineDash([]);
      };
      stroke(M, accent, 1.8, []);
      if (extra) stroke(extra, ink, 1.1, [4, 3]);
      g.fillStyle = soft; g.textAlign = "right";
      for (const [v, text] of ticks(from, to, 4)) { g.fillRect(box.x - 4, Y(v), 4, 1); g.fillText(text, box.x - 7, Y(v) + 4); }
      g.textAlign = "center";
      for (const [v, text] of ticks(0, length, 5)) {
        const x = box.x + (box.w * v) / length;
        g.fillRect(x, box.y + box.h, 1, 4); g.fillText(text, x, box.y + box.h + 16);
      }
      g.fillRect(box.x, box.y + box.h, box.w, 1);
      g.fillText(`along the line, ${d.x.units}`, box.x + box.w / 2, box.y + box.h + 34);
      g.textAlign = "left";
      const share = `${number(100 * d.level).replace(/\.0$/, "")} %`;
      g.fillText(`${d.units || "value"}: mean, ${share} band${extra ? `, ${name()} (dashed)` : ""}`, 4, 13);
      const most = at.reduce((m, _, k) => (H[k] - L[k] > H[m] - L[m] ? k : m), 0);
      profile.setAttribute("aria-label", `Profile over ${number(length)} ${d.x.units}: the mean goes from ` +
        `${number(Math.min(...M))} to ${number(Math.max(...M))}${units}; the band is at most ${number(H[most] - L[most])}${units} wide.`);
    }

    function show() {
      for (const b of root.querySelectorAll("[data-view]")) b.setAttribute("aria-pressed", String(b.dataset.view === s.key));
      for (const b of root.querySelectorAll("[data-line]")) b.setAttribute("aria-pressed", String(b.dataset.line === s.line));
      $(".of-draw").classList.toggle("on", s.key === "draw");
      $(".of-level").classList.toggle("on", s.key === "above");
      root.classList.toggle("free", s.line === "free");
      $(".draw").value = s.draw;
      $(".draw-number").textContent = `${d.draws.numbers[s.draw]} (${s.draw + 1} of ${draws.length})`;
      $(".level").value = 1000 * (s.t - d.limits[0]) / (d.limits[1] - d.limits[0]);
      $(".level-value").textContent = `${number(s.t)}${units}`;
      tell(); paint(); drawProfile();
    }
    let waiting = false;  // a timer, not a frame: keys are answered where nothing is painted too
    const soon = () => { if (!waiting) { waiting = true; setTimeout(() => { waiting = false; show(); }, 16); } };
    const inside = (v, n) => Math.min(n - 1, Math.max(0, v));
    function under(event) {
      const box = map.getBoundingClientRect();
      const x = (event.clientX - box.left - area.x) / area.w, y = (event.clientY - box.top - area.y) / area.h;
      return x < 0 || x >= 1 || y < 0 || y >= 1 ? null : [inside(Math.floor(x * columns), columns), inside(Math.floor(y * rows), rows)];
    }
    const turn = (by) => { s.key = "draw"; s.draw = (s.draw + by + draws.length) % draws.length; soon(); };

    root.addEventListener("click", (e) => {
      const button = e.target.closest("button");
      if (!button) return;
      if (button.dataset.view) s.key = button.dataset.view;
      if (button.dataset.line) s.line = button.dataset.line;
      if (button.classList.contains("save")) map.toBlob((blob) => {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(blob);
        link.download = `${name().replace(/[^\w.-]+/g, "-")}.png`;
        link.click();
        URL.revokeObjectURL(link.href);
      });
      soon();
    });
    $(".draw").addEventListener("input", (e) => { s.draw = Number(e.target.value); soon(); });
    $(".level").addEventListener("input", (e) => { s.t = d.limits[0] + (e.target.value / 1000) * (d.limits[1] - d.limits[0]); soon(); });
    map.addEventListener("pointermove", (e) => {
      const p = under(e);
      if (!p) return;
      if (s.drag) s.ends = [s.ends[0], p];
      s.at = p; soon();
    });
    map.addEventListener("pointerdown", (e) => {
      const p = under(e);
      if (!p) return;
      if (s.line === "free") { s.drag = true; s.ends = [p, p]; map.setPointerCapture(e.pointerId); }
      s.held = s.at = p; soon();
    });
    map.addEventListener("pointerup", () => { s.drag = false; });
    map.addEventListener("pointerleave", () => { s.at = s.held; soon(); });
    root.addEventListener("keydown", (e) => {
      if (e.target.tagName === "INPUT" || e.ctrlKey || e.altKey || e.metaKey) return;
      const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
      if (arrows && e.shiftKey) {
        s.held = s.at = [inside(s.held[0] + arrows[0], columns), inside(s.held[1] + arrows[1], rows)];
        if (s.line === "free") s.ends = [s.ends[0], s.held];
      } else if (arrows && arrows[0]) { turn(arrows[0]); } else if (arrows) {
        s.key = order[(order.indexOf(s.key) + arrows[1] + order.length) % order.length];
      } else if (e.key === "Escape") { s.held = s.at = home; } else {
        const letter = e.key.toLowerCase();
        if (letter === "r") s.line = "row"; else if (letter === "c") s.line = "column";
        else if (letter === "l") { s.line = "free"; s.ends = [s.held, s.held]; }
        else if (letter === "m") s.key = "mean"; else if (letter === "s") s.key = "sd"; else return;
      }
      e.preventDefault(); soon();
    });
    root.classList.add("on");
    show();
    new ResizeObserver(soon).observe(map.parentElement);
    window.addEventListener("resize", soon);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", soon);
  }

  // Where a browser cannot, the still picture stays.
  for (const root of document.querySelectorAll(".viewer")) start(root).catch((error) => console.error(error));
})();
