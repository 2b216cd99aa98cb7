% The features of commands-cnn in Octave's float64: octave-cli features.m IN.wav OUT FORMAT [symmetric]
%
% FORMAT: -v4, -v6, -v7 (MATLAB's files; variables spectrum, filterbank, logmel, each [bands, frames], as MATLAB users
% keep a spectrogram), or csv (logmel, a frame a line). "symmetric" plants a fault in the window.
arguments = argv ();
[x, rate] = audioread (arguments{1});
length_ = 16032; n = 512; hop = 160; bands = 50;
x = [x(:, 1); zeros(length_, 1)](1:length_);
frames = 1 + floor ((length_ - n) / hop);
parts = n - (numel (arguments) > 3 && strcmp (arguments{4}, "symmetric"));
window = 0.5 - 0.5 * cos (2 * pi * (0:n-1)' / parts);
at = (1:n)' + hop * (0:frames-1);
windowed = x(at) .* window;
transform = fft (windowed);
spectrum = abs (transform(1:n/2+1, :)) .^ 2;
top = 2595 * log10 (1 + rate / 2 / 700);
corner = 700 * (10 .^ (linspace (0, top, bands + 2) / 2595) - 1);
f = (0:n/2) * rate / n;
bank = zeros (bands, n / 2 + 1);
for b = 1:bands
  up = (f - corner(b)) / (corner(b + 1) - corner(b));
  down = (corner(b + 2) - f) / (corner(b + 2) - corner(b + 1));
  bank(b, :) = max (0, min (up, down)) * 2 / (corner(b + 2) - corner(b));
end
filterbank = bank * spectrum;
logmel = log10 (filterbank + 1e-6);
if (strcmp (arguments{3}, "csv"))
  dlmwrite (arguments{2}, logmel', "precision", "%.17g");
else
  save (arguments{3}, arguments{2}, "spectrum", "filterbank", "logmel");
end
