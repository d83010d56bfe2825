package pickle

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// words makes a set of a list of words, when it is first asked.
func words(s string) func(string) bool {
	set := sync.OnceValue(func() map[string]struct{} {
		m := map[string]struct{}{}
		for _, w := range strings.Fields(s) {
			m[w] = struct{}{}
		}
		return m
	})
	return func(w string) bool { _, ok := set()[w]; return ok }
}

// IsStandardLibrary says whether a top-level module is of the standard library of any
// Python from 2.7 to 3.14, on any platform (sys.stdlib_module_names, and the
// tables of lib2to3 and _compat_pickle for the older names).
var IsStandardLibrary = words(`
BaseHTTPServer Bastion CGIHTTPServer Canvas ConfigParser Cookie Dialog DocXMLRPCServer
FileDialog FixTk HTMLParser MimeWriter Queue ScrolledText SimpleDialog SimpleHTTPServer
SimpleXMLRPCServer SocketServer StringIO Tix Tkconstants Tkdnd Tkinter UserDict UserList
UserString __builtin__ __future__ __hello__ __phello__ _abc _abcoll _aix_support
_android_support _apple_support _ast _ast_unparse _asyncio _bisect _blake2 _bootlocale
_bootsubprocess _bz2 _codecs _codecs_cn _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr
_codecs_tw _collections _collections_abc _colorize _compat_pickle _compression _contextvars
_crypt _csv _ctypes _ctypes_test _curses _curses_panel _datetime _dbm _decimal _dummy_thread
_dummy_threading _elementtree _frozen_importlib _frozen_importlib_external _functools _gdbm
_hashlib _heapq _hmac _imp _interpchannels _interpqueues _interpreters _io _ios_support _json
_locale _lsprof _lzma _markupbase _md5 _msi _multibytecodec _multiprocessing _opcode
_opcode_metadata _operator _osx_support _overlapped _pickle _posixshmem _posixsubprocess _py_abc
_py_warnings _pydatetime _pydecimal _pyio _pylong _pyrepl _queue _random _remote_debugging
_scproxy _sha1 _sha256 _sha3 _sha512 _signal _sitebuiltins _socket _sqlite3 _sre _ssl _stat
_statistics _string _strptime _struct _suggestions _symtable _sysconfig _testbuffer _testcapi
_testclinic _testexternalinspection _testimportmultiple _testinternalcapi _testlimitedcapi
_testmultiphase _testsinglephase _thread _threading_local _tkinter _tokenize _tracemalloc _types
_typing _uuid _warnings _weakref _weakrefset _winapi _winreg _wmi _xxinterpchannels
_xxsubinterpreters _xxtestfuzz _zoneinfo _zstd abc aepack aetools aetypes aifc al annotationlib
antigravity anydbm applesingle argparse array ast asynchat asyncio asyncore atexit audiodev
audioop autoGIL base64 bdb binascii binhex bisect bsddb buildtools builtins bz2 cPickle cProfile
cStringIO calendar ce cfmfile cgi cgitb chunk cl cmath cmd code codecs codeop collections
colorsys commands compileall compiler compression concurrent configparser contextlib contextvars
cookielib copy copy_reg copyreg crypt csv ctypes curses dataclasses datetime dbhash dbm decimal
difflib dircache dis distutils dl doctest dumbdbm dummy_thread dummy_threading email encodings
ensurepip enum errno exceptions faulthandler fcntl filecmp fileinput fl flp fm fnmatch formatter
fpectl fpformat fractions ftplib functools future_builtins gc gdbm genericpath getopt getpass
gettext gl glob graphlib grp gzip hashlib heapq hmac hotshot html htmlentitydefs htmllib http
httplib ic idlelib ihooks imageop imaplib imgfile imghdr imp importlib imputil inspect io
ipaddress itertools jpeg json keyword lib2to3 linecache linuxaudiodev locale logging lzma
macerrors macostools macpath macresource mailbox mailcap markupbase marshal math md5 mhlib
mimetools mimetypes mimify mmap modulefinder msilib msvcrt multifile multiprocessing mutex netrc
new nis nntplib nsremote nt ntpath nturl2path numbers opcode operator optparse os os2 os2emxpath
ossaudiodev parser pathlib pdb pickle pickletools pipes pkgutil platform plistlib popen2 poplib
posix posixfile posixpath pprint pre profile pstats pty pwd py_compile pyclbr pydoc pydoc_data
pyexpat queue quopri random re readline repr reprlib resource rexec rfc822 riscos rlcompleter
robotparser runpy sched secrets select selectors sets sgmllib sha shelve shlex shutil signal
site sitecustomize smtpd smtplib sndhdr socket socketserver spwd sqlite3 sre_compile
sre_constants sre_parse ssl stat statistics statvfs string stringold stringprep strop struct
subprocess sunau sunaudiodev symbol symtable sys sysconfig syslog tabnanny tarfile telnetlib
tempfile termios test textwrap this thread threading time timeit tkColorChooser tkCommonDialog
tkFileDialog tkFont tkMessageBox tkSimpleDialog tkinter toaiff token tokenize tomllib trace
traceback tracemalloc ttk tty turtle turtledemo types typing unicodedata unittest urllib urllib2
urlparse user usercustomize uu uuid venv videoreader warnings wave weakref webbrowser whichdb
whrandom winreg winsound wsgiref xdrlib xml xmllib xmlrpc xmlrpclib xxlimited xxlimited_35
xxsubtype zipapp zipfile zipimport zlib zoneinfo`)

// IsCommonPackage says whether a top-level package is one that a process
// loading models usually has, so that a pickle's author can count on it.
// The list only decides between unsafe and review; nothing becomes safe by not
// being here.
var IsCommonPackage = words(`
IPython Cython OpenSSL PIL absl accelerate aiobotocore aiofiles aiohttp albumentations alembic anndata
anyio apache_beam apex asgiref astor astunparse attr attrs audiocraft autogluon av awq auto_gptq azure
babel backcall bcrypt bentoml bitsandbytes black bleach blosc bokeh boto boto3 botocore bs4 cachetools
catboost certifi cffi chainer chardet charset_normalizer chex click clip cloudpickle colorama coloredlogs
comet_ml compressed_tensors contourpy coremltools cryptography ctransformers cuda cupy cv2 cycler cython
dask dataclasses_json datasets dateutil datasets_modules debugpy decorator decord deepspeed diffusers
dill diskcache distributed distlib distro django docker docstring_parser docutils dotenv duckdb dynaconf
easyocr einops ensemble_boxes espnet evaluate exceptiongroup execnet executing executorch fabric fairscale
fairseq faiss fastai fastapi fastcore fastjsonschema ffmpy filelock fire flask flash_attn flatbuffers flax
fontTools frozendict fsspec ftfy future gast gcsfs gensim gevent ggml git gguf google google_auth_oauthlib
gradio gradio_client greenlet grpc gunicorn gym gymnasium h11 h5py haiku horovod httpcore httplib2 httpx
huggingface_hub humanfriendly hydra hyperopt idna ignite imageio imblearn importlib_metadata
importlib_resources inflect invoke ipykernel ipywidgets isort itsdangerous jax jaxlib jedi jinja2 jmespath
joblib json5 jsonargparse jsonpatch jsonpickle jsonschema jupyter jupyter_client jupyter_core k_diffusion
kafka keras keras_core keras_cv keras_hub keras_nlp kiwisolver kombu kornia langchain langchain_core
langchain_community ldm librosa lightgbm lightning lightning_fabric lightning_utilities litellm llama_cpp
llama_index llvmlite lmdb loguru loralib lxml mako mamba_ssm markdown markdown_it markupsafe
matplotlib mdurl mistral_common mlflow mlx mmcv mmdet mmengine mmseg ml_dtypes modelscope monai more_itertools
mpi4py mpl_toolkits mpmath msgpack msgpack_numpy multidict multiprocess mxnet mypy_extensions nacl nbconvert
nbformat nemo nest_asyncio netCDF4 networkx neptune ninja nltk nose numba numexpr numpy nvidia oauthlib
objax ollama omegaconf onnx onnxruntime onnxruntime_genai open_clip openai openpyxl opt_einsum optax optimum
optuna orbax orjson outlines packaging paddle paddleocr pandas parakeet paramiko parso pathlib2 pathos pathspec
patsy peewee peft pexpect pgmpy pika pip pipenv pkg_resources platformdirs plotly plumbum ply polars pooch
portalocker prettytable prometheus_client prompt_toolkit protobuf psutil psycopg2 ptyprocess pure_eval py
py4j pyarrow pyasn1 pybind11 pycocotools pycparser pydantic pydantic_core pydot pydub pygments pyglet pymongo
pynvml pyparsing pyproject_hooks pyro pyspark pytest _pytest pytest_mock python_multipart pytorch_lightning
pythainlp pytz pywt pyximport qtpy quanto ray rdkit redis regex replicate requests requests_oauthlib
rich rpyc rsa ruamel ruamel_yaml s3fs s3transfer sacrebleu sacremoses safetensors sagemaker scipy seaborn
sentence_transformers sentencepiece sentry_sdk seqeval setuptools setproctitle sh shap shapely simplejson
six skimage skl2onnx sklearn skops skorch smart_open smmap sniffio sortedcontainers soundfile soupsieve spacy
speechbrain sqlalchemy sqlparse srsly stable_baselines3 stack_data starlette statsmodels streamlit sympy
tables tabulate tblib tenacity tensorboard tensorboardX tensorflow tensorflow_core tensorflow_datasets
tensorflow_hub tensorflow_probability tensorflow_text tensorstore termcolor text_generation theano thinc
threadpoolctl tf_keras tifffile tiktoken timm tinygrad tltorch tokenizers toml tomli toolz torch torch_geometric
torch_xla torchao torchaudio torchdata torchmetrics torchtext torchtune torchvision tornado tqdm traitlets
transformer_engine transformers tree triton trl twisted typer typing_extensions typing_inspect tzdata tzlocal
ujson ultralytics umap unsloth urllib3 uvicorn uvloop virtualenv vllm wandb watchdog watchfiles wcwidth
webcolors websocket websockets werkzeug wheel whisper wrapt xarray xformers xgboost xxhash yacs yaml yarl
zarr zipp zmq zope zstandard
_brotli _cffi_backend _cuda_bindings_redirector _distutils_hack _pyrsistent_version _soundfile _sounddevice _virtualenv _yaml
ansible apt apt_pkg awkward awscli bottle brotli caffe2 cairo celery chromadb cloudinit cmake colorlog confluent_kafka
coverage Crypto Cryptodome dbus devscripts dns elasticsearch eth_utils eventlet fire flake8 functorch gi gitdb hypothesis
isympy itsdangerous jnius jsonlines jupyterlab jupyterlab_server keyring kubernetes libcloud libfuturize libpasteurize
lsb_release magic marshmallow megatron mistune msal mypy mypyc mysql nbclassic nbclient netaddr notebook numba_cuda
nvfuser nvidia_smi odf olefile oslo_utils paste past pbr pdfminer pefile pep517 pika playwright prefect prompt_toolkit
psycopg pudb pycodestyle pycurl pyflakes pygtk pylab pylint pymc pymysql pynput pypdf PyQt5 PyQt6 PySide2 PySide6
pythoncom pywintypes qiskit qdrant_client rfc3986 rq scrapy secretstorage selenium send2trash sage serial
simpy slugify softwareproperties sphinx sqlmodel sshtunnel supervisor systemd tabnanny terminado testpath torchgen
torchrun torchviz trio twine ufw usb uwsgi vcs_versioning webargs win32api win32com win32con wx xdist xlrd xlsxwriter
xmltodict yapf zict
airflow allennlp bpython cudf cuml dagster daal4py deepchem docarray dvc espnet2 feast flair gdown h2o ipdb jina kaggle kedro
ludwig luigi metaflow mindspore model_archiver mlxtend nncf openvino pdbpp ptpython pyannote pycaret pytorch_pretrained_bert
pytorch_transformers rasa rmm scapy stanza tensorrt tf2onnx tflite_runtime tpot tritonclient truss tvm wget zenml
`)

// IsModuleName says whether s is identifiers joined by dots.
func IsModuleName(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !IsIdentifier(part) {
			return false
		}
	}
	return true
}

// IsIdentifier is the lexical rule without Unicode's finer points: names of
// other scripts pass, controls and punctuation do not. <lambda> is what
// picklers write for functions that cannot be imported.
func IsIdentifier(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, r := range s {
		if r == utf8.RuneError {
			return false // a lone surrogate: Python cannot import it
		}
		if r < 0x80 && r != '_' && (r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a' || r > 'z') {
			return false
		}
	}
	return true
}
