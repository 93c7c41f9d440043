// Texts for numbers, times and names. Names of machines and users are hostile text.

/** Return a text in which every character that is invisible or changes the order of others is written out. */
export function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0]/gu, (character) =>
    `\\u{${character.codePointAt(0).toString(16)}}`);
}

const NONE = "–";
const COUNT = new Intl.NumberFormat("en");

/** Return a whole number with separators. */
export function count(number) {
  return number === null || number === undefined ? NONE : COUNT.format(number);
}

/** Return "1 console" or "5,000 consoles". */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Return a number of bytes with a unit. */
export function bytes(number) {
  if (number === null || number === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let power = 0;
  while (number >= 1023.5 && power < units.length - 1) {
    number /= 1024;
    power += 1;
  }
  return `${power && number < 9.95 ? number.toFixed(1) : Math.round(number)} ${units[power]}`;
}

/** Return a number of bytes a second with a unit. */
export function rate(number) {
  return number === null || number === undefined ? NONE : `${bytes(number)}/s`;
}

/** Return a duration, short enough for a column. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes < 10 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
}

/** Return a short time, such as a round trip. */
export function short(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const milliseconds = seconds * 1000;
  if (milliseconds >= 9999.5) return `${(seconds).toFixed(0)} s`;
  return `${milliseconds < 9.95 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
}

const pad = (number) => String(number).padStart(2, "0");

/** Return the date of a time of day, as 2026-11-29. */
export function date(seconds) {
  const then = new Date(seconds * 1000);
  return `${then.getFullYear()}-${pad(then.getMonth() + 1)}-${pad(then.getDate())}`;
}

/** Return a time of day in the browser's zone, with the date if it is not today. */
export function time(seconds, now) {
  const then = new Date(seconds * 1000);
  const clock = `${pad(then.getHours())}:${pad(then.getMinutes())}:${pad(then.getSeconds())}`;
  return now !== undefined && date(seconds) === date(now) ? clock : `${date(seconds)} ${clock}`;
}

/** Return the days that are left, in words. */
export function daysLeft(days) {
  if (days < 0) return `expired ${counted(-days, "day")} ago`;
  return days === 0 ? "expires today" : `${counted(days, "day")} left`;
}
