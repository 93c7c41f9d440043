// Small charts of the last hour, drawn as SVG.

import { html } from "../library/htm-preact.js";
import { counted } from "../format.js";

const WIDTH = 300;
const HEIGHT = 44;
const SPAN = 3600;

/**
 * A chart. `points` are `[time, value, …]`, the oldest first; `series` are `{ name, index, kind }` with the index
 * of the value in a point. `show` makes a text of a value.
 */
export function Chart({ title, points, series, show, now }) {
  const shown = points.filter((point) => point[0] > now - SPAN);
  const highest = Math.max(...series.flatMap((each) => values(shown, each)), 0);
  const top = highest || 1;
  const since = shown.length ? now - shown[0][0] : 0;
  return html`<figure class="chart">
    <figcaption>
      <span class="title">${title}</span>
      ${series.map((each) => html`<span key=${each.name} class="value">
        ${series.length > 1 && html`<span class="key ${each.kind}" aria-hidden="true"></span>`}
        ${series.length > 1 && html`<span class="of">${each.name} </span>`}${show(latest(shown, each))}
      </span>`)}
    </figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
      aria-label=${description(title, shown, series, show, since)}>
      <line class="base" x1="0" x2=${WIDTH} y1=${HEIGHT - 0.5} y2=${HEIGHT - 0.5} />
      ${series.map((each) => html`<path key=${`${each.name} area`} class="area ${each.kind}" d=${area(shown, each, now, top)} />`)}
      ${series.map((each) => html`<path key=${`${each.name} line`} class="line ${each.kind}" d=${line(shown, each, now, top)} />`)}
    </svg>
    <div class="scale" aria-hidden="true">
      <span>${since > 60 ? since > SPAN - 60 ? "1 hour ago" : `${minutes(since)} ago` : ""}</span><span>${highest ? `highest ${show(highest)}` : ""}</span><span>now</span>
    </div>
  </figure>`;
}

function values(points, each) {
  return points.map((point) => point[each.index]).filter((value) => value !== null && value !== undefined);
}

function latest(points, each) {
  return points.length ? points[points.length - 1][each.index] : null;
}

function minutes(seconds) {
  return seconds > SPAN - 60 ? "hour" : counted(Math.round(seconds / 60), "minute");
}

/** Return what the chart says, in words. */
function description(title, points, series, show, since) {
  if (points.length < 2) return `${title}: not measured yet`;
  const parts = series.map((each) => {
    const all = values(points, each);
    if (!all.length) return `${each.name} not measured`;
    return `${each.name} now ${show(latest(points, each))}, lowest ${show(Math.min(...all))}, highest ${show(Math.max(...all))}`;
  });
  return `${title} of the last ${minutes(since)}: ${parts.join("; ")}`;
}

const x = (point, now) => (WIDTH * (1 - (now - point[0]) / SPAN)).toFixed(1);
const y = (value, top) => (HEIGHT - 1 - (HEIGHT - 4) * (value / top)).toFixed(1);

/** Return the runs of points that have a value. */
function runs(points, each) {
  const found = [];
  let run = null;
  for (const point of points) {
    const value = point[each.index];
    if (value === null || value === undefined) {
      run = null;
    } else {
      if (!run) found.push(run = []);
      run.push(point);
    }
  }
  return found;
}

function line(points, each, now, top) {
  return runs(points, each)
    .map((run) => `M${run.map((point) => `${x(point, now)} ${y(point[each.index], top)}`).join("L")}`)
    .join("");
}

function area(points, each, now, top) {
  return runs(points, each)
    .map((run) => {
      const edge = run.map((point) => `${x(point, now)} ${y(point[each.index], top)}`).join("L");
      return `M${x(run[0], now)} ${HEIGHT - 1}L${edge}L${x(run[run.length - 1], now)} ${HEIGHT - 1}Z`;
    })
    .join("");
}
