"use strict";
// Figures, drawn by plotly.js as they come into view. Both are unpacked when the first one does.
(() => {
  const all = (what, from = document) => [...from.querySelectorAll(what)];
  const one = (what, from = document) => from.querySelector(what);

  async function unpacked(id) {
    const packed = document.getElementById(id).textContent.trim();
    if (!packed) throw new Error(`${id} wasn't installed where this page was made: pip install ${id}`);
    const text = atob(packed);
    const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }
  let ready = null;
  const library = () => ready ??= (async () => {
    const [source, figures] = await Promise.all([unpacked("plotly"), unpacked("figures")]);
    const script = document.createElement("script");
    script.textContent = source;
    document.head.append(script);
    if (!window.Plotly) throw new Error("this browser doesn't run the charts");
    return JSON.parse(figures);
  })();

  const floats = (text, kind = Float32Array) => new kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const short = (x) => {
    if (x === null || x === undefined || Number.isNaN(x)) return "not a number";
    if (!Number.isFinite(x)) return x > 0 ? "infinite" : "-infinite";
    const a = Math.abs(x);
    return a !== 0 && (a < 1e-3 || a >= 1e5) ? x.toExponential(3).replace("e+", "e") : String(Number(x.toPrecision(4)));
  };
  // A number as it is in the records, to float32.
  const exact = (x) => (x === null || !Number.isFinite(x) ? short(x) : String(Number(x.toPrecision(7))));

  function layout(more) {
    const axis = { gridcolor: color("line"), zerolinecolor: color("line"), linecolor: color("line"), automargin: true };
    const found = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("ink"), family: "system-ui, sans-serif", size: 12 },
      margin: { l: 10, r: 10, t: 30, b: 10 }, hoverlabel: { align: "left" }, ...more,
    };
    for (const k of Object.keys(found)) if (/^[xy]axis/.test(k)) found[k] = { ...axis, ...found[k] };
    return found;
  }
  // The library's own buttons, less the one that would send a figure to a server, and those that select points.
  const AWAY = ["sendChartToCloud", "sendDataToCloud", "select2d", "lasso2d"];
  const CONFIG = { displaylogo: false, responsive: true, showTips: false, modeBarButtonsToRemove: AWAY, plotlyServerURL: "" };
  const ticks = (values, words, most) => {
    const step = Math.max(1, Math.ceil(values.length / most));
    const at = values.map((_, i) => i).filter((i) => i % step === 0);
    return { tickvals: at, ticktext: at.map((i) => words[i] ?? short(values[i])) };
  };

  // Difference on a scale of three powers of ten on both sides of zero, so that small ones show beside large ones.
  const DECADES = 3;
  function signed(values) {
    let top = 0;
    for (const v of values) if (Number.isFinite(v)) top = Math.max(top, Math.abs(v));
    const unit = top / 10 ** DECADES || 1;
    const z = Array.from(values, (v) => (Number.isFinite(v) ? Math.sign(v) * Math.log10(1 + Math.abs(v) / unit) : null));
    const places = [-1, -0.1, -0.01, 0, 0.01, 0.1, 1];
    const at = places.map((p) => Math.sign(p) * Math.log10(1 + Math.abs(p * top) / unit));
    const end = at[at.length - 1] || 1;
    return { z, range: [-end, end], tickvals: at, ticktext: places.map((p) => short(p * top)) };
  }

  function picture(box, f) {
    const [n, m] = f.shape;
    const candidate = floats(f.candidate);
    // In float64: the difference is far smaller than float32 could tell.
    const golden = floats(f.golden, Float64Array);
    const ratio = f.ratio ? floats(f.ratio) : null;
    const difference = ratio ? golden.map((g, i) => candidate[i] - g) : null;
    const otherShape = f.other || f.shape;
    const matrix = (values, [rows, columns], of = (v) => v) =>
      Array.from({ length: columns }, (_, j) => Array.from({ length: rows }, (_, i) => of(values[i * columns + j])));
    const power = (v) => (v > 0 ? 10 * Math.log10(v) : v === 0 ? -Infinity : null);
    const shown = f.power ? power : (v) => (Number.isFinite(v) ? v : null);
    let [low, high] = [Infinity, -Infinity];
    for (const v of [...golden, ...candidate].map(shown)) if (v !== null && Number.isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
    if (f.power) low = Math.max(low, high - 100);
    const painted = (v) => { const z = shown(v); return z === null ? null : Math.max(low, z); };
    const y = f.y.values.map((_, i) => i);
    const words = f.y.words.length ? f.y.words : f.y.values.map(short);
    const narrow = box.clientWidth < 640;
    const unit = f.unit ? ` ${f.unit}` : "";
    const hover = (values, shape) => matrix(values, shape, exact);
    const at = (i) => `${f.x.name} %{x}<br>${f.y.name} %{text}`;
    const text = (shape) => words.slice(0, shape[1]).map((w) => Array(shape[0]).fill(w));
    const heat = (values, k, more, shape = f.shape) => ({
      type: "heatmap", x: f.x.values.slice(0, shape[0]), y: y.slice(0, shape[1]), customdata: hover(values, shape), text: text(shape),
      xaxis: `x${k}`, yaxis: `y${k}`, hoverongaps: false, ...more,
    });
    const shared = { zmin: low, zmax: high, colorscale: "Cividis" };
    const traces = [
      heat(golden, "", { ...shared, z: matrix(golden, f.shape, painted), showscale: false, name: "golden",
        hovertemplate: `${at()}<br>golden %{customdata}${unit}<extra></extra>` }),
      heat(candidate, "2", { ...shared, z: matrix(candidate, otherShape, painted), name: "candidate",
        hovertemplate: `${at()}<br>candidate %{customdata}${unit}<extra></extra>` }, otherShape),
    ];
    const third = () => {
      if (box.dataset.third === "over" && ratio) {
        const z = matrix(ratio, f.shape, (r) => Math.max(-3, Math.min(3, r > 0 ? Math.log10(r) : -3)));
        return heat(ratio, "3", { z, zmin: -3, zmax: 3, name: "error over bound", colorscale: SCALE,
          hovertemplate: `${at()}<br>error over bound %{customdata}<extra></extra>`,
          colorbar: { tickvals: [-3, -2, -1, 0, 1, 2, 3], ticktext: ["0.001", "0.01", "0.1", "bound", "10", "100", "1000"] } });
      }
      const s = signed(difference);
      return heat(difference, "3", { z: matrix(s.z, f.shape), zmin: s.range[0], zmax: s.range[1], name: "difference",
        colorscale: SCALE, hovertemplate: `${at()}<br>difference %{customdata}${unit}<extra></extra>`,
        colorbar: { tickvals: s.tickvals, ticktext: s.ticktext } });
    };
    const panels = difference ? 3 : 2;
    const half = f.x.values.length > 1 ? (f.x.values[1] - f.x.values[0]) / 2 : 0.5;
    const across = [f.x.values[0] - half, f.x.values[f.x.values.length - 1] + half];
    const up = [-0.5, Math.max(m, otherShape[1]) - 0.5];
    if (difference) traces.push(third());
    const gap = narrow ? (panels === 3 ? 0.11 : 0.16) : 82 / box.clientWidth;
    const width = (1 - gap * (panels - 1)) / panels;
    const extent = (k) => {
      const from = k * (width + gap);
      return narrow ? { x: [0, 1], y: [1 - from - width, 1 - from] } : { x: [from, from + width], y: [0, 1] };
    };
    const more = { height: narrow ? 250 * panels : 330, margin: { l: 10, r: 10, t: 26, b: 10 }, showlegend: false, annotations: [], shapes: [] };
    const heads = ["golden", "candidate", box.dataset.third === "over" ? "error over bound" : "candidate − golden"];
    for (let k = 0; k < panels; k++) {
      const id = k ? String(k + 1) : "";
      const { x, y: v } = extent(k);
      const bar = { thickness: 10, len: narrow ? width : 1, y: narrow ? (v[0] + v[1]) / 2 : 0.5, outlinewidth: 0, tickfont: { size: 11 } };
      more[`xaxis${id}`] = { domain: x, anchor: `y${id}`, title: { text: f.x.name, standoff: 4 }, matches: k ? "x" : undefined, showgrid: false, range: across };
      more[`yaxis${id}`] = { domain: v, anchor: `x${id}`, matches: k ? "y" : undefined, showgrid: false, range: up, ...ticks(f.y.values, f.y.words, 7),
        title: k && !narrow ? undefined : { text: f.y.name, standoff: 4 }, showticklabels: !k || narrow };
      more.annotations.push({ text: `<b>${heads[k]}</b>`, xref: "paper", yref: "paper", x: x[0], y: v[1], xanchor: "left", yanchor: "bottom", showarrow: false });
      if (k === 1) traces[1].colorbar = { ...bar, x: x[1], title: { text: f.power ? "dB" : f.unit, side: "top" } };
      if (k === 2) traces[2].colorbar = { ...bar, x: x[1], ...traces[2].colorbar };
    }
    if (f.worst) {
      for (let k = 0; k < panels; k++) {
        const id = k ? String(k + 1) : "";
        traces.push({ type: "scatter", x: [f.x.values[f.worst[0]]], y: [f.worst[1]], xaxis: `x${id}`, yaxis: `y${id}`, mode: "markers",
          hoverinfo: "skip", marker: { symbol: "circle-open", size: 13, color: "#000", line: { width: 3.5, color: "#000" } } });
        traces.push({ ...traces[traces.length - 1], marker: { symbol: "circle-open", size: 13, color: "#fff", line: { width: 1.5, color: "#fff" } } });
      }
    }
    Plotly.react(box, traces, layout(more), CONFIG);
    if (ratio && !box.nextElementSibling?.matches(".switch")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "switch";
      const say = () => { button.textContent = box.dataset.third === "over" ? "Show the difference" : "Show error over bound"; };
      say();
      button.addEventListener("click", () => { box.dataset.third = box.dataset.third === "over" ? "" : "over"; say(); picture(box, f); });
      box.after(button);
    }
  }
  // Blue, white, orange: told apart in every kind of colour blindness.
  const SCALE = [[0, "#08519c"], [0.25, "#6baed6"], [0.5, "#f7f7f7"], [0.75, "#f0923e"], [1, "#8c2d04"]];

  function cut(box, f) {
    const [golden, candidate, error, bound] = ["golden", "candidate", "error", "bound"].map((k) => Array.from(floats(f[k])));
    const bars = f.x.name === "label" || golden.length <= 16;
    const x = bars ? golden.map((_, i) => f.x.words[i] ?? short(f.x.values[i])) : f.x.values;
    const style = (name, dash, symbol, tone) => bars
      ? { mode: "markers", marker: { symbol, size: 10, color: color(tone) } }
      : { mode: "lines", line: { dash, width: 1.6, color: color(tone) } };
    const unit = f.unit ? ` ${f.unit}` : "";
    const trace = (values, name, dash, symbol, tone, axis) => ({
      type: "scatter", x, y: values.map((v) => (Number.isFinite(v) ? v : null)), name, yaxis: axis, customdata: values.map(exact),
      hovertemplate: `%{x}: ${name} %{customdata}${unit}<extra></extra>`, ...style(name, dash, symbol, tone) });
    const traces = [
      trace(golden, "golden", "solid", "circle", "golden", "y"), trace(candidate, "candidate", "dash", "x-thin-open", "candidate", "y"),
      trace(error.map((e) => e || null), "error", "solid", "diamond", "line-3", "y2"),
      trace(bound.map((b) => b || null), "bound", "dot", "line-ew-open", "ink", "y2"),
    ];
    traces[2].customdata = error.map(exact);
    traces[3].customdata = bound.map(exact);
    const sizes = [...error, ...bound].filter((v) => Number.isFinite(v) && v > 0);
    const top = Math.log10(Math.max(...sizes, 1e-30));
    const range = [Math.max(top - 8, Math.log10(Math.min(...sizes, 10 ** top))) - 0.3, top + 0.3];
    Plotly.react(box, traces, layout({
      height: 380, margin: { l: 10, r: 10, t: 10, b: 10 }, hovermode: "x unified", legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
      xaxis: { title: { text: f.x.name }, anchor: "y2", ...(bars ? { type: "category" } : {}) },
      yaxis: { domain: [0.52, 1], title: { text: f.unit || "value" }, tickformat: "~g" },
      yaxis2: { domain: [0, 0.44], type: "log", range, exponentformat: "power", dtick: Math.max(1, Math.ceil((range[1] - range[0]) / 4)), title: { text: "error, bound" } },
    }), CONFIG);
  }

  // Error over bound through the stages and layers, read from the table of taps beside it.
  // What is exact has no place on a scale of powers of ten: it lies at its lower end, which says so.
  const PATHS = [["cumulative", "solid", "circle", "line-1"], ["isolated", "dash", "diamond", "line-2"], ["by itself", "dash", "diamond", "line-2"], ["kernels", "dot", "square", "line-3"]];
  const MOST = 1e12;
  function scale(ratios, steps) {
    const sizes = ratios.filter((r) => r > 0).map((r) => Math.log10(Math.min(r, MOST)));
    const high = Math.max(0, Math.ceil(Math.max(0, ...sizes)));
    const floor = Math.min(-1, Math.floor(Math.min(0, ...sizes))) - 1;
    const step = Math.max(1, Math.ceil((high - floor) / steps));
    const at = [];
    for (let k = high - (high % step); k > floor; k -= step) at.push(k);
    return {
      place: (r) => (r === null ? null : r > 0 ? Math.min(r, MOST) : 10 ** floor),
      axis: { type: "log", range: [floor - 0.25, high + 0.4], tickvals: [...at.map((k) => 10 ** k), 10 ** floor],
        ticktext: [...at.map((k) => (k === 0 ? "1" : Math.abs(k) < 4 ? String(Number((10 ** k).toPrecision(3))) : `10<sup>${k}</sup>`)), "exact"], title: { text: "error over bound" } },
    };
  }
  function through(box) {
    const table = one("table.taps", document.getElementById(box.dataset.through));
    const lines = [...table.tBodies[0].rows].map((tr) => ({ tap: tr.cells[0].textContent.trim(), cells: [...tr.cells] }));
    const found = PATHS.map(([path]) => lines.map(({ tap, cells }) => {
      const cell = cells.find((c) => c.dataset.path === path);
      return { tap, ratio: cell && cell.dataset.ratio !== undefined ? Number(cell.dataset.ratio) : null, said: cell ? cell.textContent.trim() : "" };
    }));
    const s = scale(found.flat().map((f) => f.ratio), box.clientWidth < 640 ? 4 : 6);
    const used = new Set(found.flat().filter((f) => f.ratio !== null).map((f) => f.tap));
    const traces = PATHS.map(([path, dash, symbol, tone], i) => {
      const points = found[i].filter((f) => used.has(f.tap));
      return { type: "scatter", mode: "lines+markers", name: path === "cumulative" ? box.dataset.first || path : path,
        x: points.map((f) => f.tap.replace(/</g, "&lt;")), y: points.map((f) => s.place(f.ratio)), connectgaps: true,
        line: { dash, color: color(tone), width: 2 }, marker: { symbol, size: 8 },
        customdata: points.map((f) => [f.ratio === null ? "" : short(f.ratio), f.said]),
        hovertemplate: "%{customdata[0]} of the bound (%{customdata[1]})" };
    }).filter((t) => t.y.some((v) => v !== null));
    if (!traces.length) { box.hidden = true; return; }
    Plotly.react(box, traces, layout({
      height: 340, margin: { l: 10, r: 10, t: 10, b: 10 }, hovermode: "x unified", showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
      xaxis: { type: "category", tickangle: box.clientWidth < 640 ? -60 : -35 }, yaxis: s.axis,
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: color("ink"), width: 1.5 } }],
      annotations: [{ xref: "paper", x: 1, y: 0, yref: "y", text: "bound", showarrow: false, xanchor: "right", yanchor: "bottom" }],
    }), CONFIG);
  }

  // A pair's error over bound run by run.
  function history(box, f) {
    const s = scale(f.y, 4);
    Plotly.react(box, [{ type: "scatter", mode: "lines+markers", x: f.x.map((_, i) => i), y: f.y.map(s.place), line: { color: color("line-1"), width: 2 },
      marker: { size: 8, symbol: f.outcomes.map((o) => (o === "pass" ? "circle" : o === "gap" ? "diamond" : "x")), color: f.outcomes.map((o) => color(o === "pass" ? "line-1" : "line-2")) },
      customdata: f.x.map((_, i) => [f.runs[i], f.outcomes[i], f.y[i] === null ? "no number" : short(f.y[i]), f.x[i]]),
      hovertemplate: "%{customdata[3]}, run %{customdata[0]}<br>%{customdata[1]}, %{customdata[2]} of the bound<extra></extra>" }], layout({
      height: 260, margin: { l: 10, r: 10, t: 10, b: 10 }, xaxis: { tickvals: f.x.map((_, i) => i).filter((i) => i % Math.ceil(f.x.length / 6) === 0), ticktext: f.x.filter((_, i) => i % Math.ceil(f.x.length / 6) === 0).map((t) => t.slice(0, 16).replace("T", " ")) },
      yaxis: s.axis,
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: color("ink"), width: 1.5 } },
        ...f.changes.map((i) => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: i - 0.5, x1: i - 0.5, line: { color: color("soft"), dash: "dot", width: 1 } }))],
    }), CONFIG);
  }

  const KINDS = { picture, cut, history };
  async function draw(box) {
    try {
      const figures = await library();
      box.classList.add("drawn");
      if (box.dataset.through) through(box);
      else { const f = figures[box.dataset.figure]; KINDS[f.kind](box, f); }
    } catch (e) {
      box.textContent = `The figure can't be drawn (${e.message}); the numbers are in the tables.`;
    }
  }
  const drawn = new Set();
  const looked = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting && !drawn.has(target)) { drawn.add(target); draw(target); }
    }
  }, { rootMargin: "200px" });
  for (const box of all(".chart")) { box.hidden = false; looked.observe(box); }
  // Paper is narrower than most screens.
  const PAPER = 680;
  addEventListener("beforeprint", () => drawn.forEach((box) => box.layout && Plotly.relayout(box, { width: PAPER })));
  addEventListener("afterprint", () => drawn.forEach((box) => box.layout && Plotly.relayout(box, { width: undefined, autosize: true })));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
  let wide = innerWidth < 720;
  addEventListener("resize", () => { if ((innerWidth < 720) !== wide) { wide = innerWidth < 720; drawn.forEach(draw); } });
})();
